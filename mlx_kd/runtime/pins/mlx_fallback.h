// Three operators in MLX's own operators, without lists of arrays: what their typed functions run
// while nothing watches the calls.
#pragma once

#include <utility>

#include "mlx/utils.h"

namespace mlx_kd::runtime {

// Of arrays that go together, as ops.h says. An array or a pair, and no list: nothing is allocated
// but what MLX allocates.
mlx::core::array rmsnorm_in_mlx(const mlx::core::array& x, const mlx::core::array& weight,
                                double eps, const mlx::core::StreamOrDevice& s);
std::pair<mlx::core::array, mlx::core::array> rmsnorm_residual_in_mlx(
    const mlx::core::array& x, const mlx::core::array& residual, const mlx::core::array& weight,
    double eps, const mlx::core::StreamOrDevice& s);
mlx::core::array swiglu_in_mlx(const mlx::core::array& gate, const mlx::core::array& up,
                               const mlx::core::StreamOrDevice& s);

}  // namespace mlx_kd::runtime
