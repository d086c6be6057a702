// The variants in CUDA C++, with tensor cores.
#pragma once

#include <string>

#include "mlx_kd/spec/op/op.h"

namespace mlx_kd::kernels::mlstm {

spec::Variant forward_on_cuda(const std::string& op, const std::string& source);
spec::Variant backward_on_cuda(const std::string& op, const std::string& source);

}  // namespace mlx_kd::kernels::mlstm
