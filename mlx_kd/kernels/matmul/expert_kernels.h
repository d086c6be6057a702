// How products with chosen experts run on a CPU.
#pragma once

#include "mlx_kd/kernels/matmul/products.h"

namespace mlx_kd::kernels::matmul {

// Matrices of an expert: one, or those of the gate and of up; and the arrays of each.
size_t matrices_of(const Kind& kind);
size_t arrays_each(const Kind& kind);
// Rows of x: a token's, or a pair's of token and expert.
int64_t x_rows_of(const spec::Dims& dims);
// Groups of a row of W that have a scale; 0 of weights that are not quantised.
int64_t group_count(const spec::Dims& dims);

// Of few tokens each pair by itself ("streams"), of many the pairs of an expert together
// ("groups").
spec::Variant experts_on_cpu(const Kind& kind);

}  // namespace mlx_kd::kernels::matmul
