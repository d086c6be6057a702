// The kernels of matmul on a CPU.
#pragma once

#include <vector>

#include "mlx_kd/spec/op/variant.h"

namespace mlx_kd::kernels::general_product {

// blocks:  both operands are packed once, for products that are large in all dims;
// small:   many products of a few rows and columns;
// parts:   each unit packs what it multiplies, a part of K: long sums, or many small products;
// streams: the larger operand is read once, as it lies: few rows or few columns.
std::vector<spec::Variant> cpu_variants();

}  // namespace mlx_kd::kernels::general_product
