// What an LU factorisation is held against.
#pragma once

#include <vector>

#include "mlx_kd/spec/op/op.h"

namespace mlx_kd::kernels::lu {

std::vector<spec::Residual> residuals(const spec::JudgedCase& judged);

}  // namespace mlx_kd::kernels::lu
