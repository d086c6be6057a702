// The memory of one call of a candidate, and the buffers of its stages in it.
#pragma once

#include <vector>

#include "mlx_kd/devices/metal_text/metal_arguments.h"

namespace mlx_kd::devices::simt {

struct HostMemory {
  void* at = nullptr;
  size_t bytes = 0;
};

// Scratch memory starts as NaN.
struct CallMemory {
  std::vector<HostMemory> inputs, outputs;    // an output that updates an input: the same memory
  std::vector<std::vector<int64_t>> strides;  // of each input: elements, an axis each
  std::vector<std::vector<std::byte>> scratch;
};

// The row-major strides and the scratch memory of a call; inputs and outputs are to be added.
CallMemory make_memory(const Call& call);

// The buffers of one stage. Valid as long as the memory of the call.
class StageBuffers {
 public:
  StageBuffers(const StageKernel& kernel, const Call& call, const spec::Stage& stage,
               CallMemory& memory);
  StageBuffers(const StageBuffers&) = delete;
  StageBuffers& operator=(const StageBuffers&) = delete;

  const std::vector<HostMemory>& of_arguments() const { return buffers_; }  // in their order

 private:
  std::vector<Number> numbers_;
  std::vector<HostMemory> buffers_;
};

// As launch() takes them: by index of the buffers, given in order of the arguments.
std::vector<void*> by_index(const StageKernel& kernel, const std::vector<HostMemory>& buffers);

}  // namespace mlx_kd::devices::simt
