#include "mlx_kd/devices/cuda/driver/driver_api.h"

#include <dlfcn.h>
#include <mlx/version.h>

#include <filesystem>
#include <vector>

#include "mlx_kd/base/error.h"
#include "mlx_kd/devices/host/environment.h"

namespace mlx_kd::devices::cuda {
namespace {

namespace fs = std::filesystem;

template <class Table>
struct Loaded {
  Table table;
  std::string why;  // empty: it is there
};

// The first of the names that can be opened; `why` is what the first of them said.
void* open_first(const std::vector<std::string>& names, std::string& why) {
  for (const std::string& name : names) {
    if (void* handle = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL)) {
      why.clear();
      return handle;
    }
    const char* reason = dlerror();
    if (why.empty()) why = reason ? reason : name + " cannot be opened";
  }
  return nullptr;
}

template <class Type>
void look_up(void* handle, const char* name, Type& member, std::string& why) {
  member = reinterpret_cast<Type>(dlsym(handle, name));
  if (!member && why.empty()) why = std::string("it has no ") + name + ": it is too old";
}

Loaded<Driver> load_driver() {
  Loaded<Driver> result;
  void* handle = open_first({"libcuda.so.1"}, result.why);
  if (!handle) return result;
#define KD_LOOK_UP(member, signature, name) look_up(handle, name, result.table.member, result.why);
  KD_DRIVER_FUNCTIONS(KD_LOOK_UP)
  if (!result.why.empty()) return result;
  const Result started = result.table.init(0);
  const char* text = nullptr;
  if (started != 0) result.table.error_string(started, &text);
  if (started != 0) result.why = text ? text : "it does not start";
  return result;
}

// MLX's CUDA wheels bring NVRTC in a folder next to it.
void add_beside_mlx(std::vector<std::string>& names) {
  const fs::path site = mlx_folder().parent_path();
  for (const char* folder :
       {"nvidia/cu13/lib/libnvrtc.so.13", "nvidia/cuda_nvrtc/lib/libnvrtc.so.12"})
    names.push_back((site / folder).string());
}

Loaded<Nvrtc> load_nvrtc() {
  Loaded<Nvrtc> result;
  std::vector<std::string> names = {"libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so"};
  add_beside_mlx(names);
  for (const char* folder : {"/usr/local/cuda/lib64/", "/usr/local/cuda/lib/"})
    names.push_back(std::string(folder) + "libnvrtc.so");
  if (const std::string own = env_text("MLX_KD_NVRTC"); !own.empty()) names = {own};
  void* handle = open_first(names, result.why);
  if (!handle) return result;
  KD_NVRTC_FUNCTIONS(KD_LOOK_UP)
#undef KD_LOOK_UP
  return result;
}

template <class Table>
const Table* found(const Loaded<Table>& library, std::string* why) {
  if (why) *why = library.why;
  return library.why.empty() ? &library.table : nullptr;
}

}  // namespace

fs::path mlx_folder() {
  Dl_info info;
  if (!dladdr(reinterpret_cast<const void*>(&mlx::core::version), &info) || !info.dli_fname)
    return "/nowhere";
  std::error_code error;
  return fs::weakly_canonical(info.dli_fname, error).parent_path().parent_path();
}

const Driver* find_driver(std::string* why) {
  static const Loaded<Driver> library = load_driver();
  return found(library, why);
}

const Nvrtc* find_nvrtc(std::string* why) {
  static const Loaded<Nvrtc> library = load_nvrtc();
  return found(library, why);
}

const Driver& driver() {
  std::string why;
  if (const Driver* library = find_driver(&why)) return *library;
  base::fail("devices", "there is no CUDA driver (" + why + "): install NVIDIA's driver");
}

const Nvrtc& nvrtc() {
  std::string why;
  if (const Nvrtc* library = find_nvrtc(&why)) return *library;
  base::fail("devices", "there is no NVRTC (" + why +
                            "): pip install nvidia-cuda-nvrtc, or name the library in "
                            "MLX_KD_NVRTC");
}

void check(Result result, const char* doing) {
  if (result == 0) return;
  const char* text = nullptr;
  driver().error_string(result, &text);
  base::fail("devices", std::string("the GPU: ") + doing +
                            " failed: " + (text ? text : "error " + std::to_string(result)));
}

}  // namespace mlx_kd::devices::cuda
