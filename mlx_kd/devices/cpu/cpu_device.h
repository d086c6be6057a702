// The CPU: kernels compiled by the system's compiler, run as MLX operations.
#pragma once

#include <memory>

#include "mlx_kd/devices/device.h"

namespace mlx_kd::devices::cpu {

// Quick; the compiler and the cache are looked for when they are first needed.
std::shared_ptr<const Device> open_cpu_device();

}  // namespace mlx_kd::devices::cpu
