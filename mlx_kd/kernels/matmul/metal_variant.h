// The Metal variant of a product of few rows.
#pragma once

#include "mlx_kd/kernels/matmul/products.h"

namespace mlx_kd::kernels::matmul {

spec::Variant metal_variant(const Kind& kind);

}  // namespace mlx_kd::kernels::matmul
