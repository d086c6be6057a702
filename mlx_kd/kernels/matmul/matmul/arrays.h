// The arrays of matmul: sizes of a call, MLX's form, inputs of proofs.
#pragma once

#include <span>

#include "mlx_kd/spec/op/op.h"

namespace mlx_kd::kernels::general_product {

enum Port { kA, kB, kC, kBias };
enum DimIndex { kBatch, kM, kN, kK, kTransposeA, kTransposeB, kActivation, kHasC, kHasBias };

void signature(std::span<const spec::ArrayView> in, std::span<const double> scalars,
               std::span<int64_t> dims);
// Leading axes of a, b and c broadcast, without a copy.
spec::Op::Arrays arrange(const spec::Op::Arrays& in, const mlx::core::Stream& s);
spec::Op::Arrays mlx_form(const spec::Op::Arrays& in, std::span<const double> numbers,
                          const mlx::core::Stream& s);
void fill(const spec::FillRequest& request);

}  // namespace mlx_kd::kernels::general_product
