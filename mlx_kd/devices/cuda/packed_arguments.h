// kd_arguments as a kernel in CUDA C++ takes it: no larger than its operator needs, for every
// launch copies it.
#pragma once

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

class PackedArguments {
 public:
  PackedArguments(const ArgumentCounts& counts, const KernelArguments& arguments);

  void set_stage(int64_t index) { slots_[stage_] = static_cast<uint64_t>(index); }
  void* data() { return slots_.data(); }
  size_t bytes() const { return 8 * (stage_ + 1); }

 private:
  std::array<uint64_t, sizeof(KernelArguments) / 8> slots_;
  size_t stage_;  // the last slot
};

}  // namespace mlx_kd::devices::cuda
