// Our types of elements and shapes as MLX's.
#pragma once

#include "mlx/array.h"
#include "mlx_kd/spec/op.h"

namespace mlx_kd::devices {

mlx::core::Dtype mlx_dtype(spec::Dtype dtype);

// Fails (exit 1) for an axis that is longer than MLX takes.
mlx::core::Shape mlx_shape(const spec::Shape& shape);
std::vector<mlx::core::Shape> mlx_shapes(const std::vector<spec::Shape>& shapes);

}  // namespace mlx_kd::devices
