// How an entry's kernel is called at a size.
#pragma once

#include "mlx_kd/devices/device.h"
#include "mlx_kd/packs/entry.h"
#include "mlx_kd/spec/op/op.h"

namespace mlx_kd::runtime {

// The entry's C++ and CUDA kernels are launched by the op's variant of that language, launch_kind
// and func_name; Metal bodies by their launch_kind alone, as docs/formats.md lists them.
// Misuse (room runtime) where the op has no such variant, a setting that the launch needs is
// missing, or the result is not a launch: counts below 1, threads beyond 1024, groups beyond 2^31
// - 1.
devices::Call call_of(const packs::Entry& entry, const spec::Op& op, spec::Dtype t,
                      const spec::Dims& dims, const std::vector<double>& scalars);

// The knobs as a setting. Misuse where one is not a whole number or its name is not a macro's.
spec::Setting setting_of(const packs::Entry& entry);

}  // namespace mlx_kd::runtime
