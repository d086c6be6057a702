// rmsnorm in MLX's operators, without lists of arrays: nothing is allocated but what MLX allocates.
#pragma once

#include <mlx/fast.h>

namespace mlx_kd::kernels {

// Of arrays that go together, as the op's doc says.
inline mlx::core::array rmsnorm_in_mlx(const mlx::core::array& x, const mlx::core::array& weight,
                                       double eps, const mlx::core::StreamOrDevice& s) {
  return mlx::core::fast::rms_norm(x, weight, static_cast<float>(eps), s);
}

}  // namespace mlx_kd::kernels
