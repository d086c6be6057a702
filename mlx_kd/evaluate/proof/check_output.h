// Compares an output with its float64 reference and with MLX's result.
#pragma once

#include <cstdint>
#include <string>

#include "mlx_kd/spec/dtype.h"

namespace mlx_kd::evaluate {

// One output of one case; arrays of `count` elements.
struct Compared {
  const void* output;  // of the kernel
  const void* mlx;     // MLX's, same type
  const double* y64;
  const float* bound;  // largest |output - y64| that is allowed
  int64_t count;
  spec::Dtype dtype;
};

struct Comparison {
  int64_t first_wrong = -1;  // index of the first element outside its bound, -1 if none
  double bound_used = 0;     // largest |output - y64| / bound
  double max_abs_err = 0;    // largest |output - mlx|
  double max_rel_err = 0;    // largest |output - mlx| / max(|mlx|, 1e-6)
  bool same_bits = false;    // as MLX's
};

// An element is right if it lies within its bound; if it is NaN where MLX's is; if it is infinite
// where MLX's is, or where y64 with its bound passes the largest finite number. Where MLX's is NaN
// it must be NaN; where MLX's is infinite and it is not, y64 must be so near the largest finite
// number that either rounding is within the bound. Elements that are not finite count for none of
// the errors.
Comparison compare(const Compared& what);

// "output 3 is 1.5, float64 says 2 (bound 0.01), MLX says 2"
std::string explain(const Compared& what, int64_t index);
// "element 3 is 17, expected 18" of an output that must equal `expected` bit for bit.
std::string explain_exact(const void* made, const void* expected, int64_t index, spec::Dtype type);

}  // namespace mlx_kd::evaluate
