// A translated kernel as a native primitive launches it: pointers, then numbers by value.
#pragma once

#include <cstring>

#include "mlx_kd/devices/cuda/gpu.h"
#include "mlx_kd/devices/cuda/native_primitive.h"

namespace mlx_kd::devices::cuda {

// Made once for a size. Parameters are added in their order, before the first launch.
class TextWork final : public NativeWork {
 public:
  TextWork(Function function, const LaunchSize& size, NativeKernel kernel,
           std::vector<double> params)
      : kernel_(std::move(kernel)), params_(std::move(params)) {
    node_.function = function;
    for (size_t d = 0; d < 3; ++d) {
      node_.blocks[d] = size.blocks[d];
      node_.threads[d] = size.threads[d];
      node_.cluster[d] = 1;
    }
  }

  void add_input(size_t index) { parameters_.push_back({Kind::input, index}); }
  void add_output(size_t index) { parameters_.push_back({Kind::output, index}); }
  template <class T>
  void add_number(T value) {
    Parameter& one = parameters_.emplace_back(Parameter{Kind::number, 0});
    std::memcpy(&one.value, &value, sizeof value);
  }

  const NativeKernel& kernel() const override { return kernel_; }
  std::span<const double> params() const override { return params_; }
  void launch(const NativeMemory& memory, const Add& add) const override {
    std::vector<Slot> slots(parameters_.size());
    std::vector<void*> pointers(parameters_.size());
    for (size_t i = 0; i < slots.size(); ++i) {
      const Parameter& one = parameters_[i];
      slots[i] = one.kind == Kind::input    ? reinterpret_cast<Slot>(memory.inputs[one.value])
                 : one.kind == Kind::output ? reinterpret_cast<Slot>(memory.outputs[one.value])
                                            : one.value;
      pointers[i] = &slots[i];
    }
    add(node_, pointers.data());
  }
  bool same(const NativeWork& other) const override { return this == &other; }

 private:
  using Slot = uint64_t;
  enum class Kind { input, output, number };
  struct Parameter {
    Kind kind;
    Slot value;  // the index of an array, or the number's bytes
  };

  NativeKernel kernel_;
  std::vector<double> params_;
  NativeNode node_ = {};
  std::vector<Parameter> parameters_;
};

}  // namespace mlx_kd::devices::cuda
