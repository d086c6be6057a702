// A program of the device cuda: its launches can be queued on a stream, to be timed there.
#pragma once

#include "mlx_kd/devices/cuda/driver/gpu.h"
#include "mlx_kd/devices/device.h"

namespace mlx_kd::devices::cuda {

class QueuedProgram : public devices::Program {
 public:
  // Allocates what queue() needs in addition to its arrays: before a stream records.
  virtual void prepare(const Call& call) const = 0;
  // Arrays in the GPU's memory; returns before the kernel is done. Queued launches of one program
  // do not overlap.
  virtual void queue(const std::vector<const void*>& inputs, const std::vector<void*>& outputs,
                     const Call& call, Stream stream) const = 0;
};

}  // namespace mlx_kd::devices::cuda
