// How products run on a CPU.
#pragma once

#include "mlx_kd/kernels/matmul/products.h"

namespace mlx_kd::kernels::matmul {

// Of few rows of x as two streams of rows of W, of many in tiles; of qmatvec also with x in int8.
std::vector<spec::Variant> products_on_cpu(const Kind& kind);

}  // namespace mlx_kd::kernels::matmul
