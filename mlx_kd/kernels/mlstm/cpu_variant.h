// The CPU variants of the operators that go over whole sequences, chunk by chunk.
#pragma once

#include <string>

#include "mlx_kd/spec/op/op.h"

namespace mlx_kd::kernels::mlstm {

// `name`: of the operator; `source`: its path under kernels/. `is_gradient`: it keeps states, of
// every so many chunks one.
spec::Variant chunks_on_cpu(const std::string& name, const std::string& source, bool is_gradient);

}  // namespace mlx_kd::kernels::mlstm
