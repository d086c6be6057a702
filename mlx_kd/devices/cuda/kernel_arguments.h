// kd_arguments as the host fills it; kernels/common/kd_arguments.h has the text that kernels see.
#pragma once

#include <cstddef>
#include <cstdint>

namespace mlx_kd::devices::cuda {

inline constexpr size_t kMostInputs = 16, kMostOutputs = 8, kMostScratch = 4, kMostDims = 16,
                        kMostScalars = 8, kStrideAxes = 4;

struct KernelArguments {
  const void* inputs[kMostInputs];
  void* outputs[kMostOutputs];
  void* scratch[kMostScratch];
  int64_t dims[kMostDims];
  double scalars[kMostScalars];
  int64_t strides[kMostInputs + kMostOutputs][kStrideAxes];
  int64_t stage;
};

}  // namespace mlx_kd::devices::cuda
