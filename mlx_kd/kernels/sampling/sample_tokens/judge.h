// Whether tokens are draws that mlx-lm's chain can make, for any order of its float32 sums.
#pragma once

#include "mlx_kd/spec/op/op.h"

namespace mlx_kd::kernels::sample_tokens {

// The chain in float64, with the key's own random numbers. The error of logsumexp, the boundary of
// top_p and the draw itself have room for the error of float32 sums; all else is exact.
std::vector<spec::Residual> residuals(const spec::JudgedCase& judged);

}  // namespace mlx_kd::kernels::sample_tokens
