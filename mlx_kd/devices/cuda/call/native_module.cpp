#include "mlx_kd/devices/cuda/call/native_module.h"

#include <dlfcn.h>
#include <mlx/device.h>
#include <mlx/version.h>

#include <sstream>

#include "mlx_kd/base/error.h"
#include "mlx_kd/base/files.h"
#include "mlx_kd/base/own_folder.h"
#include "mlx_kd/base/sha256.h"
#include "mlx_kd/devices/cuda/driver/gpu.h"
#include "mlx_kd/devices/host/environment.h"

namespace mlx_kd::devices::cuda {
namespace {

namespace fs = std::filesystem;

constexpr const char* kFile = "libmlx_kd_cuda_native.so";
constexpr size_t kLargestHeader = size_t{8} << 20;

void* make_cluster_graph(const NativeNode& node, void** parameters) {
  Graph graph = nullptr;
  check(driver().graph_create(&graph, 0), "recording a graph");
  KernelNode kernel = {};
  kernel.function = static_cast<Function>(node.function);
  kernel.dynamic_bytes = node.shared_bytes;
  kernel.parameters = parameters;
  LaunchAttribute attribute = {};
  for (size_t d = 0; d < 3; ++d) {
    kernel.blocks[d] = node.blocks[d];
    kernel.threads[d] = node.threads[d];
    attribute.cluster[d] = node.cluster[d];
  }
  GraphNode added = nullptr;
  check(driver().graph_add_kernel(&added, graph, nullptr, 0, &kernel), "recording a kernel");
  check(driver().graph_set_attribute(added, kClusterAttribute, attribute.cluster),
        "setting the size of its clusters");
  return graph;
}

void destroy_graph(void* graph) {
  driver().graph_destroy(static_cast<Graph>(graph));
}

const NativeHost& native_host() {
  static const NativeHost host = {make_cluster_graph, destroy_graph};
  return host;
}

std::string hash_of(const fs::path& header) {
  try {
    return base::sha256_hex(base::read_file(header, "devices", kLargestHeader));
  } catch (const base::Error&) {
    return "";
  }
}

struct LoadedModule {
  const NativeApi* api = nullptr;
  fs::path path;
  std::string why;
};

LoadedModule load_first() {
  LoadedModule result;
  const std::vector<fs::path> places = native_places();
  if (places.empty()) result.why = "MLX_KD_CUDA_NATIVE is 0";
  if (!mlx::core::is_available(mlx::core::Device::gpu)) {
    result.why = "this MLX has no CUDA";
    return result;
  }
  for (const fs::path& path : places) {
    std::error_code error;
    if (!fs::exists(path, error)) {
      if (result.why.empty()) result.why = "there is no " + path.string();
      continue;
    }
    result.api = load_native(path, present_target(), result.why);
    if (result.api) result.path = path;
    return result;
  }
  return result;
}

const LoadedModule& loaded_module() {
  static const LoadedModule module = load_first();
  return module;
}

}  // namespace

NativeTarget present_target() {
  NativeTarget target;
  target.mlx_version = mlx::core::version();
  target.mlx_headers = mlx_folder() / "include";
  for (const int major : {12, 13, 14})
    if (dlopen(("libnvrtc.so." + std::to_string(major)).c_str(), RTLD_NOLOAD | RTLD_LAZY))
      target.cuda_majors.push_back(major);
  return target;
}

std::string why_not(const NativeAbout& about, const NativeTarget& target) {
  if (about.interface != kNativeInterface)
    return "it is of another build of mlx-kd (interface " + std::to_string(about.interface) +
           ", not " + std::to_string(kNativeInterface) + ")";
  if (about.mlx_version != target.mlx_version)
    return std::string("it was built for MLX ") + about.mlx_version + ", and this is MLX " +
           target.mlx_version;
  bool has_major = false;
  for (const int major : target.cuda_majors) has_major = has_major || major == about.cuda_major;
  if (!has_major)
    return "it was built for CUDA " + std::to_string(about.cuda_major) +
           ", and this MLX works with another";
  std::istringstream headers(about.headers);
  for (std::string one; std::getline(headers, one, ';');) {
    const size_t equals = one.find('=');
    const std::string name = one.substr(0, equals);
    const std::string hash = hash_of(target.mlx_headers / name);
    if (hash.empty())
      return "MLX's header " + (target.mlx_headers / name).string() +
             ", by which it is checked, cannot be read";
    if (hash != one.substr(equals + 1))
      return "MLX's header " + name + " is not the one that it was built with";
  }
  return "";
}

std::vector<fs::path> native_places() {
  const std::string named = env_text("MLX_KD_CUDA_NATIVE");
  if (named == "0" || named == "off") return {};
  if (!named.empty()) return {named};
  const fs::path folder = base::own_folder();
  return {folder / kFile, folder / "lib" / kFile, folder.parent_path() / kFile,
          folder.parent_path() / "lib" / kFile};
}

const NativeApi* load_native(const fs::path& path, const NativeTarget& target, std::string& why) {
  why.clear();
  const auto fail = [&why](const std::string& reason) -> const NativeApi* {
    why = reason;
    return nullptr;
  };
  // An MLX that lacks functions of the encoder is refused by the linker; then the module is opened
  // without them, for what it says of itself is the better reason.
  void* handle = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  std::string missing;
  if (!handle) {
    missing = dlerror();
    handle = dlopen(path.c_str(), RTLD_LAZY | RTLD_LOCAL);
  }
  if (!handle) return fail(missing);
  using About = const NativeAbout* (*)();
  using Open = const NativeApi* (*)(const NativeHost*);
  const auto about = reinterpret_cast<About>(dlsym(handle, "mlx_kd_cuda_native_about"));
  const auto open = reinterpret_cast<Open>(dlsym(handle, "mlx_kd_cuda_native"));
  if (!about || !open) return fail(path.string() + " is not a module of mlx-kd");
  if (const std::string reason = why_not(*about(), target); !reason.empty())
    return fail(path.string() + ": " + reason);
  if (!missing.empty()) return fail(missing);
  return open(&native_host());
}

const NativeApi* find_native(std::string* why) {
  const LoadedModule& module = loaded_module();
  if (why) *why = module.why;
  return module.api;
}

fs::path native_path() {
  return loaded_module().path;
}

}  // namespace mlx_kd::devices::cuda
