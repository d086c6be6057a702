// The CUDA variant of attention.
#pragma once

#include "mlx_kd/spec/op/op.h"

namespace mlx_kd::kernels::attention {

spec::Variant cuda_variant();

}  // namespace mlx_kd::kernels::attention
