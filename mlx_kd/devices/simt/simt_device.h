// Metal kernels on this CPU, threads of a threadgroup as fibers or loops.
#pragma once

#include <memory>

#include "mlx_kd/devices/device.h"

namespace mlx_kd::devices::simt {

// Quick; the compiler and the cache are looked for by compile(). Its arch is "simt", so that a
// winner measured here is never taken for one of the CPU or of a GPU.
std::shared_ptr<const Device> open_simt_device();

}  // namespace mlx_kd::devices::simt
