// Compiles several candidates at once.
#pragma once

#include <atomic>
#include <vector>

#include "mlx_kd/devices/device.h"

namespace mlx_kd::evaluate {

// One artifact per candidate, in order, on as many threads as the device has cores (a GPU: the
// host). Once `stop` is true nothing more is started; what was not compiled is not ok. Throws what
// Device::compile throws (no compiler).
std::vector<devices::Artifact> compile_batch(const devices::Device& device,
                                             const std::vector<spec::Candidate>& batch,
                                             double limit_s, const std::atomic<bool>& stop);

}  // namespace mlx_kd::evaluate
