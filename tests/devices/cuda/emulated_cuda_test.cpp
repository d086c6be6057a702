#include "tests/devices/cuda/emulated_cuda.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "mlx_kd/devices/simt/program/simt_compiler.h"

namespace mlx_kd::devices::simt {
namespace {

// The CUDA text with entries for the executor. Buffer 31 holds the true grid: CUDA launches whole
// blocks, so the launch itself is rounded up.
msl::Translation emulated(const msl::Unit& unit, const msl::TranslateOptions& options) {
  msl::Translation made = msl::translate(unit, msl::Target::cuda, options);
  made.text = "#define KD_EMULATE_CUDA 1\n" + made.text +
              "struct kd_any { void* at; template <class T> operator T*() const { return "
              "static_cast<T*>(at); } operator metal::kd_List() const { return "
              "*static_cast<metal::kd_List*>(at); } };\n";
  for (const msl::Kernel& kernel : made.kernels) {
    made.text += "extern \"C\" void " + kernel.symbol +
                 "_thread(void* const* b, void* const*, const kd_thread*) {\n  const int* g = "
                 "static_cast<const int*>(b[31]);\n  metal::source::" +
                 kernel.symbol + "(";
    for (const msl::Binding& buffer : kernel.buffers)
      made.text += "kd_any{b[" + std::to_string(buffer.index) + "]}, ";
    for (size_t i = 0; i < kernel.groups.size(); ++i) made.text += std::to_string(4096 * i) + ", ";
    made.text += "g[0], g[1], g[2]);\n}\n";
  }
  return made;
}

}  // namespace

EmulatedCuda::EmulatedCuda(const msl::Unit& unit, const msl::TranslateOptions& options)
    : text_(emulated(unit, options)) {
  const Artifact made = compile(unit, text_, {}, "test").artifact;
  if (made.ok)
    module_ = Module::load(made.path.string());
  else
    ADD_FAILURE() << made.error;
}

LaunchReport EmulatedCuda::run(MslRequest& request) const {
  const auto kernel = std::find_if(text_.kernels.begin(), text_.kernels.end(),
                                   [&](const auto& one) { return one.name == request.kernel; });
  int grid[3];
  Size3 whole;
  for (int d = 0; d < 3; ++d) {
    grid[d] = static_cast<int>(request.grid[d]);
    const uint32_t group = std::min(request.threadgroup[d], request.grid[d]);
    whole[d] = (request.grid[d] + group - 1) / group * group;
  }
  std::vector<void*> buffers(32, nullptr);
  buffers[31] = grid;
  for (const msl::Binding& buffer : kernel->buffers)
    for (HostArray& array : request.arrays)
      if (array.name == buffer.name) buffers[static_cast<size_t>(buffer.index)] = array.data();
  LaunchOptions options;
  options.cores = 1;
  options.timeout_s = 60;
  return launch(module_->entry(*kernel), buffers, {}, whole, request.threadgroup, options);
}

}  // namespace mlx_kd::devices::simt
