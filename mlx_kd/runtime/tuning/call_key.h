// What tells the calls of a kernel apart: types and axes of all arrays.
#pragma once

#include <cstdint>
#include <vector>

#include "mlx/array.h"

namespace mlx_kd::runtime {

using CallKey = std::vector<int32_t>;

inline CallKey key_of(const std::vector<mlx::core::array>& inputs) {
  CallKey key;
  for (const mlx::core::array& input : inputs) {
    key.push_back(-1 - static_cast<int32_t>(input.dtype().val()));
    key.insert(key.end(), input.shape().begin(), input.shape().end());
  }
  return key;
}

}  // namespace mlx_kd::runtime
