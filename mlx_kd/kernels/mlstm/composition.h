// mLSTM in MLX's own operators.
#pragma once

#include "mlx_kd/spec/op/op.h"

namespace mlx_kd::kernels::mlstm {

struct FormSettings {
  double eps;
  bool siging, normalize;
  bool normalizer_grad = true;  // false: gradients take normaliser and m for constants
};

// The parallel form, with all pairs of tokens: h, c, n, m of mlstm_chunkwise. Finite gates.
spec::Op::Arrays parallel_form(const spec::Op::Arrays& in, const FormSettings& settings,
                               const mlx::core::Stream& s);
// h, c, n, m of one step. Finite gates.
spec::Op::Arrays step_form(const spec::Op::Arrays& in, const FormSettings& settings,
                           const mlx::core::Stream& s);

}  // namespace mlx_kd::kernels::mlstm
