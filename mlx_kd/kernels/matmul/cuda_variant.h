// The CUDA variants of products of few rows, and of many tokens with chosen experts.
#pragma once

#include "mlx_kd/kernels/matmul/products.h"

namespace mlx_kd::kernels::matmul {

spec::Variant cuda_variant(const Kind& kind);
spec::Variant cuda_variant_of_experts(const Kind& kind);
spec::Variant cuda_variant_of_groups(const Kind& kind);

}  // namespace mlx_kd::kernels::matmul
