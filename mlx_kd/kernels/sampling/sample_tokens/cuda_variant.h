// sample_tokens in CUDA C++.
#pragma once

#include "mlx_kd/spec/op/op.h"

namespace mlx_kd::kernels::sample_tokens {

// Logits of 16 bits alone.
spec::Variant cuda_variant();

}  // namespace mlx_kd::kernels::sample_tokens
