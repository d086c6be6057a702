// kd_arguments as a kernel in CUDA C++ takes it: no larger than its operator needs, for every
// launch copies it.
#pragma once

#include <cstring>

#include "mlx_kd/devices/kernel_arguments.h"

namespace mlx_kd::devices::cuda {

// How many of each there are, at least one: the macros KD_INPUTS, KD_OUTPUTS, KD_DIMS, KD_SCALARS.
struct ArgumentCounts {
  size_t inputs = spec::kMostInputs, outputs = spec::kMostOutputs;
  size_t dims = spec::kMostDims, scalars = spec::kMostScalars;
};
// Misuse for more than kd_arguments holds.
ArgumentCounts argument_counts(const spec::Candidate& candidate);
std::vector<std::string> count_macros(const ArgumentCounts& counts);

// A copy costs what the operator needs.
class PackedArguments {
 public:
  PackedArguments(const ArgumentCounts& counts, const KernelArguments& arguments);
  PackedArguments(const PackedArguments& other)
      : counts_(other.counts_), scalars_(other.scalars_), stage_(other.stage_) {
    std::memcpy(slots_.data(), other.slots_.data(), bytes());
  }
  PackedArguments& operator=(const PackedArguments&) = delete;

  void set_input(size_t i, const void* at) { slots_[i] = reinterpret_cast<uint64_t>(at); }
  void set_output(size_t i, void* at) {
    slots_[counts_.inputs + i] = reinterpret_cast<uint64_t>(at);
  }
  void set_scratch(size_t i, void* at) {
    slots_[counts_.inputs + counts_.outputs + i] = reinterpret_cast<uint64_t>(at);
  }
  void set_scalar(size_t i, double value) {
    std::memcpy(&slots_[scalars_ + i], &value, sizeof value);
  }
  // Of an input, right-aligned.
  void set_strides(size_t input, const Strides& strides) {
    std::memcpy(&slots_[scalars_ + counts_.scalars + input * kStrideAxes], strides.data(),
                sizeof strides);
  }
  void set_stage(int64_t index) { slots_[stage_] = static_cast<uint64_t>(index); }
  void* data() { return slots_.data(); }
  size_t bytes() const { return 8 * (stage_ + 1); }

 private:
  std::array<uint64_t, sizeof(KernelArguments) / 8> slots_;
  ArgumentCounts counts_;
  size_t scalars_, stage_;  // the first slot of the scalars, and the last slot
};

}  // namespace mlx_kd::devices::cuda
