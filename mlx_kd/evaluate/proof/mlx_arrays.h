// Between raw memory and MLX arrays.
#pragma once

#include <mlx/array.h>

#include <cstddef>

#include "mlx_kd/devices/host/mlx_types.h"
#include "mlx_kd/spec/op.h"

namespace mlx_kd::evaluate {

namespace mx = mlx::core;

using devices::mlx_dtype;

// A copy of row-major memory as an array of MLX.
mx::array to_mlx(const void* data, const spec::Shape& shape, spec::Dtype dtype);

// Evaluates what an op returned, row-major. Fails if it is not `count` arrays of that type.
std::vector<mx::array> evaluated(const std::vector<mx::array>& outputs, size_t count,
                                 spec::Dtype dtype, const std::string& op_name);

}  // namespace mlx_kd::evaluate
