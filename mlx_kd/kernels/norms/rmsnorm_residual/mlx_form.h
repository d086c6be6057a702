// rmsnorm_residual in MLX's operators, without lists of arrays: nothing is allocated but what MLX
// allocates.
#pragma once

#include <mlx/fast.h>
#include <mlx/ops.h>

#include <utility>

namespace mlx_kd::kernels {

// Of arrays that go together, as the op's doc says.
inline std::pair<mlx::core::array, mlx::core::array> rmsnorm_residual_in_mlx(
    const mlx::core::array& x, const mlx::core::array& residual, const mlx::core::array& weight,
    double eps, const mlx::core::StreamOrDevice& s) {
  mlx::core::array updated = mlx::core::add(x, residual, s);
  mlx::core::array y = mlx::core::fast::rms_norm(updated, weight, static_cast<float>(eps), s);
  return {std::move(y), std::move(updated)};
}

}  // namespace mlx_kd::kernels
