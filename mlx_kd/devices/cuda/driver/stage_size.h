// Whether a stage can be launched, and in how many blocks.
#pragma once

#include "mlx_kd/devices/cuda/driver/gpu.h"
#include "mlx_kd/spec/op/variant.h"

namespace mlx_kd::devices::cuda {

// What a function allows, by the driver.
struct FunctionLimits {
  int most_threads = 1024;  // per group, by its registers
  int static_bytes = 0;     // of shared memory
  int64_t group_bytes = 0;  // of shared memory that the chip gives a group
  int sm = 90;
};

// Groups are whole: threads beyond the grid run as well. Misuse, naming the operator, the function
// and the value, for a size that the chip or the function does not take: threads or groups per
// axis, threads per group, shared memory, clusters.
LaunchSize stage_size(const std::string& op_name, const spec::Stage& stage,
                      const FunctionLimits& limits);

}  // namespace mlx_kd::devices::cuda
