#include "mlx_kd/devices/simt/program/call_memory.h"

#include <algorithm>

namespace mlx_kd::devices::simt {
namespace {

using Holds = MetalArgument::Holds;

template <class T>
HostMemory all_of(std::vector<T>& values) {
  return {values.data(), values.size() * sizeof(T)};
}

}  // namespace

CallMemory make_memory(const Call& call) {
  CallMemory result;
  for (const spec::ArraySpec& input : call.inputs) result.strides.push_back(axis_strides(input));
  for (const int64_t bytes : call.scratch)
    result.scratch.emplace_back(static_cast<size_t>(bytes), std::byte{0xff});
  return result;
}

StageBuffers::StageBuffers(const StageKernel& kernel, const Call& call, const spec::Stage& stage,
                           CallMemory& memory)
    : numbers_(metal_numbers(kernel.arguments, call, stage)) {
  size_t number = 0;
  for (const MetalArgument& one : kernel.arguments) {
    if (one.holds == Holds::input)
      buffers_.push_back(memory.inputs.at(one.port));
    else if (one.holds == Holds::output)
      buffers_.push_back(memory.outputs.at(one.port));
    else if (one.holds == Holds::scratch)
      buffers_.push_back(all_of(memory.scratch.at(one.port)));
    else if (one.holds == Holds::strides)
      buffers_.push_back(all_of(memory.strides.at(one.port)));
    else
      buffers_.push_back({numbers_[number++].data(), number_bytes(one)});
  }
}

std::vector<void*> by_index(const StageKernel& kernel, const std::vector<HostMemory>& buffers) {
  std::vector<void*> result;
  for (size_t i = 0; i < buffers.size(); ++i) {
    const auto index = static_cast<size_t>(kernel.arguments[i].index);
    result.resize(std::max(result.size(), index + 1), nullptr);
    result[index] = buffers[i].at;
  }
  return result;
}

}  // namespace mlx_kd::devices::simt
