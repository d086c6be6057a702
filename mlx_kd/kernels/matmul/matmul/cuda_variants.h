// The kernels of matmul in CUDA C++.
#pragma once

#include <vector>

#include "mlx_kd/spec/op/variant.h"

namespace mlx_kd::kernels::general_product {

// matmul_small.cu, for many small matrices, matmul_parts.cu, for long sums of narrow ones, and
// matmul.cu, for all sizes.
std::vector<spec::Variant> cuda_variants();

}  // namespace mlx_kd::kernels::general_product
