// metal_kernel on a GPU stream of an MLX with CUDA.
#pragma once

#include "mlx_kd/devices/metal_text/metal_body.h"

namespace mlx_kd::devices::cuda {

// As RunMetalBody. Without ensure_row_contiguous, inputs lie as they are only where all are
// computed already; others are copied, and their strides are those of the copies. Fails (exit 1)
// where there is no NVRTC.
std::vector<mlx::core::array> run_body(const MetalBodyCall& call);

}  // namespace mlx_kd::devices::cuda
