// Heads of queries and keys that are normed, where there is a weight, and rotated.
#pragma once

#include "mlx_kd/kernels/positions/rotary.h"

namespace mlx_kd::kernels {

// Of a norm's weight (D), which is there where the attribute says so.
std::function<spec::Shape(const spec::Dims&)> weight_if(const char* attribute);
// Whether a call has it; refused where it has another shape. Allocates only then.
bool has_weight(const char* op, const char* name, const spec::ArrayView& weight, int64_t width);
// complete_rotary, and the attributes has_wq and has_wk.
spec::Dims complete_heads(const spec::Dims& dims);

// x (B, H, M, D), normed unless the weight is left out, then rotated.
mlx::core::array heads_in_mlx(const mlx::core::array& x, const mlx::core::array& weight, double eps,
                              const MlxRotation& by, const mlx::core::Stream& s);

spec::ErrorBound bound_of_heads(const spec::Dims& dims);

// Whether a model norms queries and keys by head.
bool norms_heads(const spec::ModelConfig& config);

}  // namespace mlx_kd::kernels
