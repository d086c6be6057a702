// What the knob spaces and launches of the Metal variants have in common.
#pragma once

#include "mlx_kd/spec/op/op.h"

namespace mlx_kd::kernels {

// VEC: elements of a pack.
spec::Knob pack_knob();

// FAST: fast or precise math.
spec::Knob fast_knob(const std::string& what);

// A launch knob of element-wise kernels: threads of a threadgroup.
spec::Knob group_knob();

// At least `threads` threads in x, in whole groups of THREADS
// (docs/decisions/cuda.md).
spec::Launch launch_flat(int64_t threads, const spec::Setting& knobs);

}  // namespace mlx_kd::kernels
