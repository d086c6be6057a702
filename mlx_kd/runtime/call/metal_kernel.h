// Kernels in the Metal Shading Language on every device: MLX's metal_kernel, where MLX has Metal or
// not.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "mlx/fast.h"
#include "mlx_kd/base/api.h"

namespace mlx_kd::runtime {

// What is watched at the first call of each kernel with each size, on a CPU.
struct KernelChecks {
  bool races = false;
  bool memory = false;
  std::string order = "forward";  // of the threads of a group, in all calls: "reverse", "random"
  uint64_t seed = 0;              // of the random order
  double budget_s = 1;            // so many threadgroups are watched as fit, at least one
  bool print = true;              // what is found, on stderr, when it is found
};

// "races,memory", one of them, "none" or "". Misuse for anything else.
MLX_KD_API KernelChecks parse_kernel_checks(const std::string& checks);
// Of this process from now on; until then, what MLX_KD_METAL_CHECK says. Misuse for an order that
// is none. Any thread.
MLX_KD_API void check_metal_kernels(const KernelChecks& checks);

// What came of watching one kernel at one size.
struct KernelReport {
  std::string kernel;
  std::array<uint32_t, 3> grid{}, threadgroup{};
  uint64_t groups = 0;   // of the call
  uint64_t watched = 0;  // of them
  std::vector<std::string> findings;
  std::string note;  // why watching ended early; "" if it did not
};
// Those since it was called last. Any thread.
MLX_KD_API std::vector<KernelReport> take_kernel_reports();

// The signature and behaviour of mlx::core::fast::metal_kernel; on a CPU stream the executor runs
// the kernel, on NVIDIA it is translated, on a Mac's GPU it is MLX's own. Compiled at the call,
// once per process for a text, and kept on disk. Any thread.
//
// std::invalid_argument in MLX's words for what MLX refuses; base::Error (exit code 2), with file,
// line and column of the Metal text, for what Metal refuses: the body is the file kd_body, the
// header kd_header. `checks`: of this kernel, in place of those of the process.
MLX_KD_API mlx::core::fast::CustomKernelFunction metal_kernel(
    const std::string& name, const std::vector<std::string>& input_names,
    const std::vector<std::string>& output_names, const std::string& source,
    const std::string& header = "", bool ensure_row_contiguous = true, bool atomic_outputs = false,
    const mlx::core::CompileOptions& compile_options = {},
    const std::optional<KernelChecks>& checks = std::nullopt);

}  // namespace mlx_kd::runtime
