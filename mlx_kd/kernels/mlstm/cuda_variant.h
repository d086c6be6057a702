// The variant of the forward direction in CUDA C++.
#pragma once

#include <string>

#include "mlx_kd/spec/op/op.h"

namespace mlx_kd::kernels::mlstm {

// Stages: what chunks do to m, m before each, the gates, the memory before each chunk, h.
spec::Variant forward_on_cuda(const std::string& op, const std::string& source);

}  // namespace mlx_kd::kernels::mlstm
