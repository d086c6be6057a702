// mLSTM in float64: the parallel form over all pairs of tokens, whatever a kernel's chunks are.
#pragma once

#include <vector>

#include "mlx_kd/spec/op/op.h"

namespace mlx_kd::kernels::mlstm {

// Of mlstm_chunkwise: h, c, n, m.
std::vector<spec::Reference64> forward64(const std::vector<const void*>& inputs, spec::Dtype t,
                                         const spec::Dims& dims,
                                         const std::vector<double>& scalars);
// Of mlstm_chunkwise_vjp: dq, dk, dv, di, df, dc0, dn0, dm0; the last three empty without a state.
std::vector<spec::Reference64> backward64(const std::vector<const void*>& inputs, spec::Dtype t,
                                          const spec::Dims& dims,
                                          const std::vector<double>& scalars);

// float32 roundings charged on the terms: at most 1e-5 of them.
constexpr double kAccumulated = 160;

}  // namespace mlx_kd::kernels::mlstm
