// Every operator of the library. The table itself is generated: kernels/<op>/op.cpp defines
// make_<op>().
#pragma once

#include <map>
#include <string>
#include <vector>

#include "mlx_kd/spec/op/op.h"

namespace mlx_kd::kernels {

// All ops, by name in order. Built once, then shared by all threads. Fails (exit 1), naming
// operator and field, if one is not what spec::faults_of asks for.
const std::vector<spec::Op>& all_ops();

// Of the table, else of those that were added in this process (user_kernel.h). Misuse, naming the
// known ones.
const spec::Op& find_op(const std::string& name);

// The text of a kernel source by its path under kernels/: "rmsnorm/rmsnorm.cpu.cpp". Fails if there
// is none.
const std::string& kernel_source(const std::string& path);

// Generated (mlx_kd/kernels/room.cmake). An op.cpp defines the function that makes its operator.
using MakeOp = spec::Op();
const std::vector<MakeOp*>& op_makers();
const std::map<std::string, std::string>& kernel_sources();

}  // namespace mlx_kd::kernels
