// One call of a kernel on arrays of the host, on a device with a memory of its own.
#pragma once

#include "mlx_kd/devices/device.h"

namespace mlx_kd::evaluate {

struct HostBytes {
  const void* data;
  int64_t bytes;
};
struct HostSpace {
  void* data;
  int64_t bytes;
};

// Copies the inputs and what the outputs hold to the device, runs the kernel, copies the outputs
// back. Each array lies between margins of 64 KiB: those of inputs hold NaN, so that what is read
// past an end shows; those of outputs must be untouched afterwards. Index of the first output that
// was written out of bounds, or -1.
int launch_staged(const devices::Accelerator& accelerator, const devices::Program& program,
                  const devices::Call& call, const std::vector<HostBytes>& inputs,
                  const std::vector<HostSpace>& outputs);

}  // namespace mlx_kd::evaluate
