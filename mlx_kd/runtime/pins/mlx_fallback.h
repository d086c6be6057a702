// Operators in MLX's own operators, on a stream that the caller names: what runs without a pin, and
// what the transformations of a pinned operation go through.
#pragma once

#include <utility>

#include "mlx/utils.h"
#include "mlx_kd/devices/device.h"
#include "mlx_kd/spec/op.h"

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

// The form of an op. One that is not written here takes Op::mlx, which runs on the calling thread's
// default stream. Holds a pointer to `op`.
devices::MlxForm form_of(const spec::Op& op);

}  // namespace mlx_kd::runtime
