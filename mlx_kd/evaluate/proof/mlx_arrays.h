// Between raw memory and MLX arrays.
#pragma once

#include <mlx/array.h>

#include <cstddef>

#include "mlx_kd/devices/host/mlx_types.h"
#include "mlx_kd/evaluate/proof/proof_plan.h"

namespace mlx_kd::evaluate {

namespace mx = mlx::core;

using devices::mlx_dtype;

// A copy of row-major memory as an array of MLX.
mx::array to_mlx(const void* data, const spec::ArraySpec& array);

// Evaluates what an op's MLX form returned, row-major. Fails if the number of arrays or a type is
// not that of the op's outputs.
std::vector<mx::array> evaluated(const std::vector<mx::array>& outputs, const Case& c,
                                 const spec::Op& op);

}  // namespace mlx_kd::evaluate
