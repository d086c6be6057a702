// The CUDA variant of gemm.
#pragma once

#include "mlx_kd/spec/op/variant.h"

namespace mlx_kd::kernels::matmul {

spec::Variant gemm_in_cuda();

}  // namespace mlx_kd::kernels::matmul
