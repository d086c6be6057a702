// The Metal variants of the operators that go over whole sequences, chunk by chunk.
#pragma once

#include <string>

#include "mlx_kd/spec/op/op.h"

namespace mlx_kd::kernels::mlstm {

// `name`: of the operator; `source`: its path under kernels/.
spec::Variant forward_on_metal(const std::string& name, const std::string& source);
spec::Variant backward_on_metal(const std::string& name, const std::string& source);

}  // namespace mlx_kd::kernels::mlstm
