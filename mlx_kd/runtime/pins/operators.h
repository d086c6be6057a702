// Every operator of the library with what the runtime knows of it.
#pragma once

#include <atomic>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "mlx_kd/devices/device.h"
#include "mlx_kd/runtime/pins/signature.h"
#include "mlx_kd/spec/op/op.h"

namespace mlx_kd::runtime {

struct Operator {
  const spec::Op* op;
  uint16_t index;  // into all_operators()
  Signature signature;
  bool has_attributes;
  bool has_optional;                                    // inputs
  bool has_chosen_types;                                // an input's type follows from the size
  bool has_plain_inputs;                                // all are of type T, and none is optional
  std::vector<std::optional<spec::Dtype>> fixed_types;  // of the inputs
  // Places (bits by mx::Device::DeviceType) where MLX's form threw and our kernel ran
  // instead: MLX is not asked there again.
  std::shared_ptr<std::atomic<uint32_t>> without_mlx;

  static uint32_t bit_of(const mlx::core::Stream& stream) {
    return 1u << static_cast<unsigned>(stream.device.type);
  }
  bool mlx_runs_on(const mlx::core::Stream& stream) const {
    return op->mlx && !(without_mlx->load(std::memory_order_relaxed) & bit_of(stream));
  }
};

// By name in order. Made once, never destroyed: arrays that outlive every static object point here.
const std::deque<Operator>& all_operators();

// Another operator, after all others: tests bring theirs so, before anything is pinned.
const Operator& add_operator(const spec::Op& op);

// nullptr if there is none.
const Operator* find_operator(const std::string& name);

}  // namespace mlx_kd::runtime
