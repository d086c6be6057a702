// What a QR factorisation is held against.
#pragma once

#include <vector>

#include "mlx_kd/spec/op/op.h"

namespace mlx_kd::kernels::qr {

enum Mode : int64_t { kReduced, kComplete, kOnlyR };

std::vector<spec::Residual> residuals(const spec::JudgedCase& judged);

// Columns of Q, and rows of R.
inline int64_t q_columns(const spec::Dims& dims) {
  const int64_t m = dims.at("m"), n = dims.at("n");
  return dims.at("mode") == kComplete || m < n ? m : n;
}

}  // namespace mlx_kd::kernels::qr
