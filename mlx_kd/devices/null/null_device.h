// A device that compiles and runs nothing: its times come from a formula, so that search, discover,
// archive and cli are tested in milliseconds.
//
// The formula is a bowl over the knobs: one basin, neighbouring knobs interact, the bottom moves a
// little with the size and the type. It uses no libm, so the values are the same on every machine.
#pragma once

#include <memory>

#include "mlx_kd/devices/device.h"
#include "mlx_kd/spec/verdict.h"

namespace mlx_kd::devices::null {

// kind, arch and name are "null"; traits are those of a plausible CPU (4 cores, 64-byte vectors).
std::shared_ptr<const Device> open_null_device();

// The kernel's time in us, > 0. Same arguments, same bits.
double null_kernel_us(const spec::Candidate& candidate, const spec::Dims& dims);

// The time of MLX's own operator in us: some settings are slower, the best are about twice as fast.
double null_mlx_us(const spec::Dims& dims, spec::Dtype dtype);

// benchmarked for about 19 settings in 20; the others are compile_error, wrong or timeout.
spec::Status null_status(const spec::Candidate& candidate);

}  // namespace mlx_kd::devices::null
