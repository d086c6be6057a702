// What the knob spaces and launches of the Metal variants have in common.
#pragma once

#include "mlx_kd/spec/op.h"

namespace mlx_kd::kernels {

// VEC: elements of a pack.
spec::Knob pack_knob();

// FAST: fast or precise math.
spec::Knob fast_knob(const std::string& what);

// The space of a norm that gives ROWS rows of a threadgroup THREADS threads each. `again`: sums are
// of two arrays, and the knob AGAIN says whether they are added twice.
spec::Space metal_rows_space(spec::Dtype dtype, bool again);
spec::Launch launch_rows(const spec::Dims& dims, const spec::Setting& knobs);

// A launch knob of element-wise kernels: threads of a threadgroup.
spec::Knob group_knob();

// At least `threads` threads in x, in whole groups of THREADS
// (docs/decisions/cuda.md).
spec::Launch launch_flat(int64_t threads, const spec::Setting& knobs);

}  // namespace mlx_kd::kernels
