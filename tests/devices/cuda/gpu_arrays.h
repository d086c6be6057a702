// Arrays on the GPU for Program::launch.
#pragma once

#include <vector>

#include "mlx_kd/devices/cuda/driver/gpu.h"

namespace mlx_kd::devices::cuda {

// Arrays in the GPU's memory, given back at the end.
class GpuArrays {
 public:
  template <class T>
  void* add(const std::vector<T>& values) {
    memory_.emplace_back(static_cast<int64_t>(values.size() * sizeof(T)));
    write_memory(memory_.back().at(), values.data(), values.size() * sizeof(T));
    return reinterpret_cast<void*>(memory_.back().at());
  }
  template <class T>
  std::vector<T> read(size_t index, size_t count) const {
    std::vector<T> values(count);
    check(driver().read(values.data(), memory_[index].at(), count * sizeof(T)), "reading");
    return values;
  }

 private:
  std::vector<Memory> memory_;
};

}  // namespace mlx_kd::devices::cuda
