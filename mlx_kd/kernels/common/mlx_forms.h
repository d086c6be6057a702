// What operators of several families compute in MLX.
#pragma once

#include <mlx/array.h>
#include <mlx/stream.h>

namespace mlx_kd::kernels {

// The tanh form of GELU, as mlx.nn.gelu_approx computes it.
mlx::core::array gelu_in_mlx(const mlx::core::array& x, const mlx::core::Stream& s);

}  // namespace mlx_kd::kernels
