#include "mlx_kd/devices/cuda/compile/packed_arguments.h"

#include <algorithm>

#include "mlx_kd/base/error.h"

namespace mlx_kd::devices::cuda {

ArgumentCounts argument_counts(const spec::Candidate& candidate) {
  const auto counted = [&](size_t count, size_t most, const char* what) {
    if (count > most)
      base::misuse("devices", "op '" + candidate.op_name + "' has " + std::to_string(count) + " " +
                                  what + ": a kernel in CUDA C++ takes " + std::to_string(most));
    return std::max<size_t>(count, 1);
  };
  return {counted(candidate.inputs_spec.size(), spec::kMostInputs, "inputs"),
          counted(candidate.outputs_spec.size(), spec::kMostOutputs, "outputs"),
          counted(candidate.dim_names.size(), spec::kMostDims, "sizes"),
          counted(candidate.scalar_names.size(), spec::kMostScalars, "numbers")};
}

std::vector<std::string> count_macros(const ArgumentCounts& counts) {
  return {"KD_INPUTS=" + std::to_string(counts.inputs),
          "KD_OUTPUTS=" + std::to_string(counts.outputs), "KD_DIMS=" + std::to_string(counts.dims),
          "KD_SCALARS=" + std::to_string(counts.scalars)};
}

PackedArguments::PackedArguments(const ArgumentCounts& counts, const KernelArguments& arguments)
    : counts_(counts) {
  size_t at = 0;
  const auto put = [&](const void* values, size_t count) {
    std::memcpy(&slots_[at], values, 8 * count);
    at += count;
  };
  put(arguments.inputs, counts.inputs);
  put(arguments.outputs, counts.outputs);
  put(arguments.scratch, spec::kMostScratch);
  put(arguments.dims, counts.dims);
  scalars_ = at;
  put(arguments.scalars, counts.scalars);
  put(arguments.strides, (counts.inputs + counts.outputs) * kStrideAxes);
  stage_ = at;
  set_stage(arguments.stage);
}

}  // namespace mlx_kd::devices::cuda
