// mlx-lm's sampler with MLX's operators.
#pragma once

#include "mlx_kd/spec/op/op.h"

namespace mlx_kd::kernels::sample_tokens {

// The filters that the numbers switch on, one after the other, and mx.random.categorical: token and
// log probability. For rows with settings of their own the filters run on columns of settings,
// without min_tokens_to_keep, xtc and top_k.
spec::Op::Arrays chain(const spec::Op::Arrays& inputs, std::span<const double> numbers,
                       const mlx::core::Stream& stream);

}  // namespace mlx_kd::kernels::sample_tokens
