// The variant of the forward direction in CUDA C++.
#pragma once

#include <string>

#include "mlx_kd/spec/op/op.h"

namespace mlx_kd::kernels::mlstm {

// With tensor cores: five stages.
spec::Variant forward_on_cuda(const std::string& op, const std::string& source);

}  // namespace mlx_kd::kernels::mlstm
