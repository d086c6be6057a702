// The variant of mlstm_chunkwise in CUDA C++.
#pragma once

#include "mlx_kd/spec/op/op.h"

namespace mlx_kd::kernels::mlstm {

// Stages: what chunks do to m, m before each, the gates, the memory before each chunk, h.
spec::Variant forward_on_cuda();

}  // namespace mlx_kd::kernels::mlstm
