// How tokens and their log probabilities are judged, in float64.
#pragma once

#include <vector>

#include "mlx_kd/spec/op/op.h"

namespace mlx_kd::kernels::greedy_token {

// One ratio, at most 1: of all rows, the largest |L - logsumexp| that explains the row's outputs,
// as a share of what float32 sums may be off by. A row is explained by a real number L if the log
// probability is rounded(x_max - rounded(L)) and the token the lowest index that has it, both
// rounded to T. Infinite where no L near logsumexp does. Rows with NaN or infinities have one right
// answer each, that of MLX on a CPU.
std::vector<spec::Residual> residuals(const spec::JudgedCase& judged);

}  // namespace mlx_kd::kernels::greedy_token
