// From the functions of the op.cpp files to the table of operators.
#pragma once

#include <vector>

#include "mlx_kd/kernels/op_table.h"

namespace mlx_kd::kernels {

// What they make, by name in order. Fails (exit 1), naming operator and field, if one is not what
// spec::faults_of asks for.
std::vector<spec::Op> make_table(const std::vector<MakeOp*>& makers);

}  // namespace mlx_kd::kernels
