// Kernels in the Metal Shading Language on every device: MLX's metal_kernel, where MLX has Metal or
// not.
#pragma once

#include <string>
#include <vector>

#include "mlx/fast.h"
#include "mlx_kd/base/api.h"

namespace mlx_kd::runtime {

// The signature and behaviour of mlx::core::fast::metal_kernel; on a CPU stream the executor runs
// the kernel, on NVIDIA it is translated, on a Mac's GPU it is MLX's own. Compiled at the call,
// once per process for a text, and kept on disk. Any thread.
//
// std::invalid_argument in MLX's words for what MLX refuses; base::Error (exit code 2), with file,
// line and column of the Metal text, for what Metal refuses: the body is the file kd_body, the
// header kd_header.
MLX_KD_API mlx::core::fast::CustomKernelFunction metal_kernel(
    const std::string& name, const std::vector<std::string>& input_names,
    const std::vector<std::string>& output_names, const std::string& source,
    const std::string& header = "", bool ensure_row_contiguous = true, bool atomic_outputs = false,
    const mlx::core::CompileOptions& compile_options = {});

}  // namespace mlx_kd::runtime
