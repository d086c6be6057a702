// Whole pieces of `by` that `value` fills, the last one perhaps in part.
#pragma once

#include <cstdint>

namespace mlx_kd::kernels {

constexpr int64_t divide_up(int64_t value, int64_t by) {
  return (value + by - 1) / by;
}

}  // namespace mlx_kd::kernels
