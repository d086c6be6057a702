#include "mlx_kd/devices/cuda/compile/cuda_source.h"

#include <filesystem>

#include "mlx_kd/base/error.h"
#include "mlx_kd/base/json.h"
#include "mlx_kd/base/sha256.h"
#include "mlx_kd/devices/cuda/driver/driver_api.h"
#include "mlx_kd/devices/host/environment.h"

namespace mlx_kd::devices::cuda {
namespace {

namespace fs = std::filesystem;

constexpr int kSourceFormat = 1;  // part of every key: another one leaves all older cubins behind
constexpr const char* kAlone = "KD_ALONE";
constexpr int kFirstWithOwnCode = 90;  // sm_90a: instructions that later chips lack

// The symbol table of an object names the section of each kernel.
bool has_kernel(const std::string& cubin, const std::string& func_name) {
  const std::string section = ".text." + func_name;
  return cubin.find(section.c_str(), 0, section.size() + 1) != std::string::npos;
}

}  // namespace

std::string source_file(const spec::Candidate& candidate) {
  return candidate.op_name + ".cu";
}

std::vector<std::string> cuda_include_folders() {
  std::vector<fs::path> candidates;
  if (const std::string own = env_text("MLX_KD_CUDA_INCLUDE"); !own.empty()) {
    candidates = {own};
  } else {
    const fs::path packages = mlx_folder().parent_path();
    candidates = {packages / "nvidia/cu13/include", packages / "nvidia/cuda_runtime/include",
                  "/usr/local/cuda/include"};
  }
  std::error_code error;
  for (const fs::path& folder : candidates) {
    if (!fs::exists(folder / "cuda_bf16.h", error)) continue;
    std::vector<std::string> folders = {folder.string()};
    if (fs::exists(folder / "cccl", error)) folders.push_back((folder / "cccl").string());
    return folders;
  }
  return {};
}

bool has_kernels_alone(const spec::Candidate& candidate) {
  return candidate.source.find(kAlone) != std::string::npos;
}

std::vector<std::string> source_options(const spec::Candidate& candidate, int sm) {
  return source_options(candidate, sm, candidate.func_name);
}

std::vector<std::string> source_options(const spec::Candidate& candidate, int sm,
                                        const std::string& func_name) {
  const std::string arch = std::to_string(sm) + (sm >= kFirstWithOwnCode ? "a" : "");
  std::vector<std::string> options = {"--gpu-architecture=sm_" + arch, "--std=c++20", "-w"};
  for (const std::string& one : argument_macros(candidate)) options.push_back("-D" + one);
  for (const std::string& one : count_macros(argument_counts(candidate)))
    options.push_back("-D" + one);
  for (const std::string& folder : cuda_include_folders())
    options.push_back("--include-path=" + folder);
  if (has_kernels_alone(candidate)) {
    options.push_back(std::string("-D") + kAlone);
    options.push_back(std::string("-D") + kAlone + "_" + func_name + "=~,1");
  }
  return options;
}

Cubin compile_source(const spec::Candidate& candidate, const std::vector<std::string>& options) {
  return compile_source(candidate, options, candidate.func_name);
}

Cubin compile_source(const spec::Candidate& candidate, const std::vector<std::string>& options,
                     const std::string& func_name) {
  Cubin made = compile_cuda(source_file(candidate), candidate.source, options, {});
  if (made.bytes.empty() && made.error.find("open source file") != std::string::npos)
    made.error +=
        "; CUDA's headers are looked for in the toolkit and next to MLX: pip install "
        "nvidia-cuda-runtime, or name their folder in MLX_KD_CUDA_INCLUDE";
  if (!made.bytes.empty() && !has_kernel(made.bytes, func_name))
    return {"", source_file(candidate) + " has no kernel '" + func_name +
                    "': define it as extern \"C\" __global__"};
  return made;
}

std::string source_key(const spec::Candidate& candidate, const std::vector<std::string>& options) {
  const base::Json decides = {
      {"format", kSourceFormat},    {"executor", "cuda source"}, {"kernel", candidate.func_name},
      {"source", candidate.source}, {"options", options},        {"version", nvrtc_version()}};
  return base::sha256_hex(base::canonical_json(decides));
}

}  // namespace mlx_kd::devices::cuda
