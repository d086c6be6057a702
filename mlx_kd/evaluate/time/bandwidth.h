// How fast this machine moves bytes and computes: what no honest kernel beats.
#pragma once

#include "mlx_kd/base/json.h"
#include "mlx_kd/devices/device.h"

namespace mlx_kd::evaluate {

// Bytes read plus bytes written per us, by plain copies on all cores at once, or by the device's
// own where it has a memory of its own.
struct Bandwidth {
  double warm = 0;   // from and to the second-level cache
  double cold = 0;   // from and to memory
  double flops = 0;  // float32 operations per us; 0 if not measured (devices with their own memory)
};

// Takes about 40 ms; best of several passes.
Bandwidth measure_bandwidth(const devices::Device& device);

base::Json to_json(const Bandwidth& bandwidth);
Bandwidth bandwidth_from_json(const base::Json& value);

}  // namespace mlx_kd::evaluate
