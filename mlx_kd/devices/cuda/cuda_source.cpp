#include "mlx_kd/devices/cuda/cuda_source.h"

#include <filesystem>

#include "mlx_kd/base/error.h"
#include "mlx_kd/base/json.h"
#include "mlx_kd/base/sha256.h"
#include "mlx_kd/devices/cuda/kernel_arguments.h"
#include "mlx_kd/devices/host/environment.h"

namespace mlx_kd::devices::cuda {
namespace {

namespace fs = std::filesystem;

constexpr int kFormat = 1;  // part of every key: another one leaves all older cubins behind
constexpr int kFirstWithOwnCode = 90;  // sm_90a: instructions that later chips lack

std::vector<PlanPort> ports_of(const base::Json& spec, ElementType dtype) {
  std::vector<PlanPort> ports;
  for (const base::Json& one : spec) {
    PlanPort& port = ports.emplace_back();
    port.name = one.value("name", "");
    port.type = one.contains("dtype") ? parse_element_type(one["dtype"]) : dtype;
  }
  return ports;
}

void check_count(const CudaSource& source, size_t count, size_t most, const char* what) {
  if (count > most)
    base::misuse("devices", "op '" + source.op_name + "' has " + std::to_string(count) + " " +
                                what + ": a kernel in CUDA C++ takes " + std::to_string(most));
}

std::string macro(const std::string& name, size_t value) {
  return "-D" + name + "=" + std::to_string(value);
}

// The symbol table of an object names the section of each kernel.
bool has_kernel(const std::string& cubin, const std::string& func_name) {
  const std::string section = ".text." + func_name;
  return cubin.find(section.c_str(), 0, section.size() + 1) != std::string::npos;
}

}  // namespace

CudaSource cuda_source(const spec::Candidate& candidate) {
  CudaSource source;
  source.op_name = candidate.op_name;
  source.file = candidate.op_name + ".cu";
  source.text = candidate.source;
  source.func_name = candidate.func_name;
  source.dtype = parse_element_type(spec::name_of(candidate.dtype));
  source.inputs = ports_of(candidate.inputs_spec, source.dtype);
  source.outputs = ports_of(candidate.outputs_spec, source.dtype);
  for (const auto& [name, value] : candidate.knobs.items())
    if (!candidate.launch_params.contains(name)) source.knobs.set(name, value);
  return source;
}

std::vector<std::string> cuda_macros(const CudaSource& source) {
  check_count(source, source.inputs.size(), kMostInputs, "inputs");
  check_count(source, source.outputs.size(), kMostOutputs, "outputs");
  check_count(source, source.dim_names.size(), kMostDims, "sizes");
  check_count(source, source.scalar_names.size(), kMostScalars, "numbers");
  std::vector<std::string> macros = {macro("KD_DTYPE", static_cast<size_t>(source.dtype))};
  for (size_t i = 0; i < source.dim_names.size(); ++i)
    macros.push_back(macro("KD_DIM_" + source.dim_names[i], i));
  for (size_t i = 0; i < source.scalar_names.size(); ++i)
    macros.push_back(macro("KD_SCALAR_" + source.scalar_names[i], i));
  for (const auto* ports : {&source.inputs, &source.outputs})
    for (const PlanPort& port : *ports)
      if (!port.name.empty())
        macros.push_back(macro("KD_TYPE_" + port.name, static_cast<size_t>(port.type)));
  for (const auto& [name, value] : source.knobs.items())
    macros.push_back("-D" + name + "=" + std::to_string(value));
  return macros;
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

std::vector<std::string> cuda_source_options(const CudaSource& source, int sm) {
  const std::string arch = std::to_string(sm) + (sm >= kFirstWithOwnCode ? "a" : "");
  std::vector<std::string> options = {"--gpu-architecture=sm_" + arch, "--std=c++20", "-w"};
  for (std::string& one : cuda_macros(source)) options.push_back(std::move(one));
  for (const std::string& folder : cuda_include_folders())
    options.push_back("--include-path=" + folder);
  return options;
}

Cubin compile_source(const CudaSource& source, const std::vector<std::string>& options) {
  Cubin made = compile_cuda(source.file, source.text, options, {});
  if (made.bytes.empty() && made.error.find("open source file") != std::string::npos)
    made.error +=
        "; CUDA's headers are looked for in the toolkit and beside MLX: pip install "
        "nvidia-cuda-runtime, or name their folder in MLX_KD_CUDA_INCLUDE";
  if (!made.bytes.empty() && !has_kernel(made.bytes, source.func_name))
    return {"", source.file + " has no kernel '" + source.func_name +
                    "': define it as extern \"C\" __global__"};
  return made;
}

std::string source_key(const CudaSource& source, const std::vector<std::string>& options) {
  const base::Json decides = {{"format", kFormat},          {"executor", "cuda source"},
                              {"kernel", source.func_name}, {"source", source.text},
                              {"options", options},         {"version", nvrtc_version()}};
  return base::sha256_hex(base::canonical_json(decides));
}

}  // namespace mlx_kd::devices::cuda
