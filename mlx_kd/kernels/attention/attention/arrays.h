// The arrays of a call: their shapes, and what MLX computes of them.
#pragma once

#include <span>

#include "mlx_kd/spec/op/op.h"

namespace mlx_kd::kernels::attention {

// Indices of Op::dims and of Op::inputs.
enum DimIndex { kS, kB, kHq, kHk, kM, kDk, kDv, kCausal, kWindow, kHasMask, kHasSinks, kHasBias };
enum PortIndex { kQ, kK, kV, kMask, kSinks, kBias };

// As Op::signature, Op::arrange and Op::mlx. Masks and biases get the shape of the scores, without
// a copy; a mask that is not a bool array is a bias.
void signature(std::span<const spec::ArrayView> in, std::span<const double> scalars,
               std::span<int64_t> dims);
spec::Op::Arrays arrange(const spec::Op::Arrays& in, const mlx::core::Stream& s);
spec::Op::Arrays mlx_form(const spec::Op::Arrays& in, std::span<const double> numbers,
                          const mlx::core::Stream& s);

}  // namespace mlx_kd::kernels::attention
