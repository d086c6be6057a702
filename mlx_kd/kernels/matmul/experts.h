// Products of x with the weights of chosen experts: what the operators gather_* have in common, of
// few tokens and of many, quantised or not, with one matrix or with gate and up. Everything but
// their words is here.
#pragma once

#include "mlx_kd/kernels/matmul/products.h"

namespace mlx_kd::kernels::matmul {

// Dims: M tokens, A experts that each has chosen, E experts, N rows of one's W, K columns; M is
// leading and free. A row of x is a token's (x has the shape (M, 1, K)) or a pair's of token and
// expert ((M, A, K): the attribute per_pair). Attributes, all read off the arrays but `activation`
// (0 silu, 1 the tanh form of GELU, 2 that of gpt-oss): of quantised weights bits, group, mode as
// products.h has them; per_pair, has_bias.
//
// An id from E on chooses no expert: its results are NaN, and nothing is read for it.
spec::Op expert_product_op(const Kind& kind);

}  // namespace mlx_kd::kernels::matmul
