// What a Cholesky factorisation is held against, and the matrices that it is proved with.
#pragma once

#include <vector>

#include "mlx_kd/spec/op/op.h"

namespace mlx_kd::kernels::cholesky {

// Random, graded and shifted Hilbert matrices; where the distribution is special, some that are not
// positive definite and some with a NaN. None is close to singular, so that `info` is the same in
// float as in float64. With magnitudes, the triangle that is not read holds other numbers.
void fill(const spec::FillRequest& request);

std::vector<spec::Residual> residuals(const spec::JudgedCase& judged);

}  // namespace mlx_kd::kernels::cholesky
