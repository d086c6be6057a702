// kd_arguments as the host fills it; kernels/common/kd_arguments.h is the text that kernels see,
// and a test holds the two to the same layout.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "mlx_kd/devices/device.h"
#include "mlx_kd/spec/op/limits.h"

namespace mlx_kd::devices {

inline constexpr size_t kStrideAxes = spec::kMostAxes;
using Strides = std::array<int64_t, kStrideAxes>;

struct KernelArguments {
  const void* inputs[spec::kMostInputs];
  void* outputs[spec::kMostOutputs];
  void* scratch[spec::kMostScratch];
  int64_t dims[spec::kMostDims];
  double scalars[spec::kMostScalars];
  Strides strides[spec::kMostInputs + spec::kMostOutputs];  // inputs, then outputs
  int64_t stage;
};

// Right-aligned: the last axis is strides[3]. Row-major where the array names none.
Strides strides_of(const spec::ArraySpec& array);

// All but the pointers and the stage: dims, scalars, strides of inputs and outputs.
KernelArguments arguments_of(const Call& call);

// "KD_DTYPE=0", "KD_DIM_rows=0", "KD_SCALAR_eps=0", "KD_TYPE_inp=0", and every source knob: what a
// source of Abi::arguments is compiled with. KD_TYPE_: as spec::Dtype counts.
std::vector<std::string> argument_macros(const spec::Candidate& candidate);

}  // namespace mlx_kd::devices
