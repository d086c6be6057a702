// How chosen experts and their weights are judged, in float64.
#pragma once

#include <vector>

#include "mlx_kd/spec/op/op.h"

namespace mlx_kd::kernels::router {

// Two ratios, at most 1 each. Of the ids: by how much an expert that was not chosen, or comes
// later, would have been better, as a share of what float32 scores may be off by; where logits
// decide, nothing is allowed, and equal ones go to the lowest index. Of the weights: their error as
// a share of what is allowed. Rows with NaN, or without a softmax, must have weights of NaN. Where
// two groups are so close that either may be chosen, only that the ids are different experts.
std::vector<spec::Residual> residuals(const spec::JudgedCase& judged);

}  // namespace mlx_kd::kernels::router
