// Memory, clock and copies of the GPU.
#pragma once

#include "mlx_kd/devices/accelerator.h"

namespace mlx_kd::devices::cuda {

// For programs of this device. Thread-safe.
std::unique_ptr<Accelerator> make_accelerator();

}  // namespace mlx_kd::devices::cuda
