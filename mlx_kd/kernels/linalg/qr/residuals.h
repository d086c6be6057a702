// What a QR factorisation is held against.
#pragma once

#include <vector>

#include "mlx_kd/spec/op/op.h"

namespace mlx_kd::kernels::qr {

enum Mode : int64_t { kReduced, kComplete, kOnlyR };

std::vector<spec::Residual> residuals(const spec::JudgedCase& judged);

}  // namespace mlx_kd::kernels::qr
