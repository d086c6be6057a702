// What soft_cap and its gradient share: ports, sizes, knobs, launches.
#pragma once

#include "mlx_kd/spec/op/op.h"

namespace mlx_kd::kernels::soft_cap {

spec::Scalar cap_scalar();

// Fills in dims, suites, edge sizes and scalars of an element-wise op of rows.
void add_sizes(spec::Op& op);

// The kernels <name>.cpu.cpp and <name>.metal of the folder.
std::vector<spec::Variant> variants(const std::string& name);

}  // namespace mlx_kd::kernels::soft_cap
