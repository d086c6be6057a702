// Rows of special values that the norms define.
#pragma once

#include <limits>

#include "mlx_kd/spec/dtype.h"

namespace mlx_kd::kernels {

inline constexpr int64_t kSpecialRows = 4;

// Row 0: one infinity (its element becomes NaN, the others 0); 1: one NaN; 2: zeros of both signs;
// 3: subnormals.
inline void write_special_row(void* x, int64_t row, int64_t d, spec::Dtype dtype) {
  const auto put = [&](int64_t j, double value) {
    spec::store_element(x, row * d + j, dtype, static_cast<float>(value));
  };
  if (row == 0) put(d / 2, -std::numeric_limits<double>::infinity());
  if (row == 1) put(d / 3, std::numeric_limits<double>::quiet_NaN());
  for (int64_t j = 0; j < d && row >= 2; ++j)
    put(j, (j % 2 ? -1 : 1) *
               (row == 2 ? 0.0 : spec::smallest_subnormal(dtype) * static_cast<double>(j % 9)));
}

}  // namespace mlx_kd::kernels
