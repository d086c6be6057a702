// What the norms compute, in float64, and the rows of special values that they define.
#pragma once

#include "mlx_kd/kernels/common/reference64.h"

namespace mlx_kd::kernels {

// y = w x rsqrt(mean(x^2) + eps) of rows of d values. `roundings`: to the type, each on |y|. S is
// |y|; it is infinite in rows of finite values whose sum of squares overflows float32, in which the
// op sums. `accumulated`: of the op's bound.
spec::Reference64 norm_reference(const std::vector<double>& x, const std::vector<double>& w,
                                 double eps, spec::Dtype dtype, double roundings,
                                 double accumulated);

// float32 roundings of a scale rsqrt(mean of d squares + eps), as a bound on its relative error in
// units of 2^-24.
double norm_roundings(int64_t d);

inline constexpr int64_t kSpecialRows = 4;

// Row 0: one infinity (its element becomes NaN, the others 0); 1: one NaN; 2: zeros of both signs;
// 3: subnormals.
void write_special_row(void* x, int64_t row, int64_t d, spec::Dtype dtype);

}  // namespace mlx_kd::kernels
