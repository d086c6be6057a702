// A translated kernel as a native primitive launches it: pointers, then numbers by value.
#pragma once

#include <cstring>

#include "mlx_kd/devices/cuda/gpu.h"
#include "mlx_kd/devices/cuda/native_primitive.h"

namespace mlx_kd::devices::cuda {

// Parameters are added in their order, before the first launch.
class TextWork final : public NativeWork {
 public:
  TextWork(Function function, const LaunchSize& size) {
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

  void launch(const NativeMemory& memory, const Add& add) const override {
    std::vector<uint64_t> values;
    std::vector<void*> pointers;
    values.reserve(parameters_.size());  // their addresses are taken
    pointers.reserve(parameters_.size());
    for (const Parameter& one : parameters_) {
      uint64_t value = one.value;
      if (one.kind == Kind::input) value = reinterpret_cast<uint64_t>(memory.inputs[one.value]);
      if (one.kind == Kind::output) value = reinterpret_cast<uint64_t>(memory.outputs[one.value]);
      pointers.push_back(&values.emplace_back(value));
    }
    add(node_, pointers.data());
  }

  bool same(const NativeWork& other) const override { return this == &other; }

 private:
  enum class Kind { input, output, number };
  struct Parameter {
    Kind kind;
    uint64_t value;  // the index of an array, or the number's bytes
  };

  NativeNode node_ = {};
  std::vector<Parameter> parameters_;
};

}  // namespace mlx_kd::devices::cuda
