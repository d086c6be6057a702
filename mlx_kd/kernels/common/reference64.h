// What the float64 references of several ops have in common.
#pragma once

#include <vector>

#include "mlx_kd/spec/op/op.h"

namespace mlx_kd::kernels {

// `count` elements as double.
std::vector<double> load_all(const void* data, int64_t count, spec::Dtype dtype);

// One element of a Reference64.
struct Charged {
  double y;
  double rounded;       // magnitudes of what is rounded to the type on the way
  double terms;         // S
  double absolute = 0;  // what flushing may cost
};
void append(spec::Reference64& reference, const Charged& element);

// Absolute error that an intermediate result may have because devices flush subnormals to zero:
// 2^-126 in float32 and bfloat16; in float16, whose subnormals matter, the spacing there.
double underflow(spec::Dtype dtype);

// Makes infinite what rounds to infinity in the type; where the bound leaves both open, S is
// infinite too. `accumulated`: of the op's bound.
void saturate(spec::Reference64& reference, spec::Dtype dtype, double accumulated);

}  // namespace mlx_kd::kernels
