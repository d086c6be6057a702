// metal_kernel on a CPU stream.
#pragma once

#include "mlx_kd/devices/metal_text/metal_body.h"

namespace mlx_kd::devices::simt {

// As RunMetalBody. Compiles, and gives lazy arrays. Misuse for more than 1,024 threads per group.
std::vector<mlx::core::array> run_body(const MetalBodyCall& call);

}  // namespace mlx_kd::devices::simt
