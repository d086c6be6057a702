// Operators in MLX's own operators, on a stream that the caller names: what runs without a pin, and
// what the transformations of a pinned operation go through.
#pragma once

#include "mlx_kd/devices/device.h"
#include "mlx_kd/spec/op.h"

namespace mlx_kd::runtime {

// The form of an op. One that is not written here takes Op::mlx, which runs on the calling thread's
// default stream. Holds a pointer to `op`.
devices::MlxForm form_of(const spec::Op& op);

}  // namespace mlx_kd::runtime
