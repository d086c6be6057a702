// What the results of qk_norm_rope_append_quantized are held against.
//
// Codes of rotated keys depend on the last bit of a rotation, so they are judged by the numbers
// that they stand for; values are judged bit by bit, and so are rows that are not written.
#pragma once

#include "mlx_kd/kernels/common/affine_rows.h"
#include "mlx_kd/spec/op/op.h"

namespace mlx_kd::kernels::qk_norm_rope_append_quantized {

enum PortIndex { kQ = 6, kK, kV, kRow, kOffset, kWq, kWk, kFreqs };

// As Op::fill, Op::reference, Op::exact and Op::residuals.
void fill(const spec::FillRequest& request);
std::vector<spec::Reference64> reference(const std::vector<const void*>& in, spec::Dtype dtype,
                                         const spec::Dims& dims,
                                         const std::vector<double>& scalars);
void exact(const std::vector<const void*>& in, spec::Dtype t, const spec::Dims& dims,
           const std::vector<double>& scalars, const std::vector<void*>& outputs);
std::vector<spec::Residual> residuals(const spec::JudgedCase& judged);

}  // namespace mlx_kd::kernels::qk_norm_rope_append_quantized
