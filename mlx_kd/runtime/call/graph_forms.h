// What transformations of a call go through: MLX's form, or another operator for the gradient.
#pragma once

#include <vector>

#include "mlx/array.h"
#include "mlx_kd/devices/device.h"
#include "mlx_kd/runtime/pins/operators.h"

namespace mlx_kd::runtime {

// For our kernel at a size. What it points to lives as long as the process.
devices::GraphCall graph_call(const Operator& op, const DimValues& dims,
                              const mlx::core::Stream& stream);

// MLX's form of the op, with the gradient that the op declares. Throws what the form throws.
std::vector<mlx::core::array> in_mlx(const Operator& op,
                                     const std::vector<mlx::core::array>& inputs,
                                     std::span<const double> scalars, const DimValues& dims,
                                     const mlx::core::Stream& stream);

// Whether a transformation or a trace may go through a call of these arrays.
bool is_traced(const Inputs& inputs);

}  // namespace mlx_kd::runtime
