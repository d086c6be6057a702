// swiglu in MLX's operators, without lists of arrays: nothing is allocated but what MLX allocates.
#pragma once

#include <mlx/ops.h>

namespace mlx_kd::kernels {

// Of arrays that go together, as the op's doc says.
inline mlx::core::array swiglu_in_mlx(const mlx::core::array& gate, const mlx::core::array& up,
                                      const mlx::core::StreamOrDevice& s) {
  namespace mx = mlx::core;
  return mx::multiply(mx::multiply(gate, mx::sigmoid(gate, s), s), up, s);
}

}  // namespace mlx_kd::kernels
