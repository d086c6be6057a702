// What the search spaces and launches of the norms share. `again`: sums are of two arrays, and the
// knob AGAIN says whether they are added twice.
#pragma once

#include "mlx_kd/spec/op/op.h"

namespace mlx_kd::kernels {

// On a CPU a unit is a row.
spec::Space cpu_rows_space(spec::Dtype dtype, const spec::DeviceTraits& traits, bool again);
spec::Launch launch_cpu_rows(const spec::Dims& dims, const spec::Setting& knobs);

// In Metal a threadgroup takes ROWS rows, THREADS threads each.
spec::Space metal_rows_space(spec::Dtype dtype, bool again);
spec::Launch launch_metal_rows(const spec::Dims& dims, const spec::Setting& knobs);

}  // namespace mlx_kd::kernels
