// The Metal variants of products of few rows: with weights of all rows, or with those of each
// pair of token and expert.
#pragma once

#include "mlx_kd/kernels/matmul/products.h"

namespace mlx_kd::kernels::matmul {

spec::Variant metal_variant(const Kind& kind);
spec::Variant experts_in_metal(const Kind& kind);

}  // namespace mlx_kd::kernels::matmul
