// A translated kernel as it is launched: pointers, lists of strides and numbers by value.
#pragma once

#include <array>
#include <cstring>
#include <vector>

#include "mlx_kd/devices/cuda/call/native_primitive.h"

namespace mlx_kd::devices::cuda {

inline constexpr size_t kMostParameters = 128;

struct TextParameter {
  enum class Kind : uint8_t { input, output, scratch, strides, number } kind;
  uint64_t value;  // the index of the array, of strides that of the input; or the number's bytes
};

template <class T>
TextParameter number_parameter(T number) {
  TextParameter result{TextParameter::Kind::number, 0};
  static_assert(sizeof number <= sizeof result.value);
  std::memcpy(&result.value, &number, sizeof number);
  return result;
}

// One launch, with its parameters in order: at most kMostParameters.
struct TextStage {
  NativeNode node = {};
  std::vector<TextParameter> parameters = {};
};

using AxisStrides = std::array<int64_t, kStrideAxes>;  // the outermost axis first

// What the parameters of a launch are taken from, by index.
struct TextMemory {
  const void* const* inputs;
  void* const* outputs;
  void* const* scratch;
  const AxisStrides* strides;
};

// Where the value of each parameter lies, as the driver wants it; good as long as `stage` and what
// `memory` names are.
class ParameterList {
 public:
  ParameterList(const TextStage& stage, const TextMemory& memory) {
    using Kind = TextParameter::Kind;
    size_t next = 0;
    for (const TextParameter& one : stage.parameters) {
      const void* at =
          one.kind == Kind::number    ? static_cast<const void*>(&one.value)
          : one.kind == Kind::input   ? static_cast<const void*>(memory.inputs + one.value)
          : one.kind == Kind::output  ? static_cast<const void*>(memory.outputs + one.value)
          : one.kind == Kind::scratch ? static_cast<const void*>(memory.scratch + one.value)
                                      : memory.strides[one.value].data();
      values_[next++] = const_cast<void*>(at);
    }
  }
  void** data() { return values_.data(); }

 private:
  std::array<void*, kMostParameters> values_;
};

// All stages of a call. Made once for a size and its numbers.
class TextWork final : public NativeWork {
 public:
  // `strides`: of each input, for arrays that have not the axes of the port.
  TextWork(NativeKernel kernel, std::vector<TextStage> stages, std::vector<double> params,
           std::vector<AxisStrides> strides = {})
      : kernel_(std::move(kernel)),
        stages_(std::move(stages)),
        params_(std::move(params)),
        strides_(std::move(strides)) {}

  const NativeKernel& kernel() const override { return kernel_; }
  const std::vector<TextStage>& stages() const { return stages_; }
  const std::vector<AxisStrides>& strides() const { return strides_; }
  std::span<const double> params() const override { return params_; }
  void launch(const NativeMemory& memory, const Add& add) const override;
  bool same(const NativeWork& other) const override { return this == &other; }

 private:
  NativeKernel kernel_;
  std::vector<TextStage> stages_;
  std::vector<double> params_;
  std::vector<AxisStrides> strides_;
};

}  // namespace mlx_kd::devices::cuda
