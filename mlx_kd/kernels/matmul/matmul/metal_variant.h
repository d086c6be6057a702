// The kernel of matmul in Metal: tiles in threadgroup memory, multiplied as matrices of 8 x 8.
#pragma once

#include "mlx_kd/spec/op/variant.h"

namespace mlx_kd::kernels::general_product {

spec::Variant metal_variant();

}  // namespace mlx_kd::kernels::general_product
