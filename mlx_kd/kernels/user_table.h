// Operators of this process that are not in the table.
#pragma once

#include <string>

#include "mlx_kd/spec/op/op.h"

namespace mlx_kd::kernels {

// The one of that name that was added last (user_kernel.h); nullptr if there is none.
const spec::Op* find_user_op(const std::string& name);

}  // namespace mlx_kd::kernels
