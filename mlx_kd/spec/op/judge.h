// What a kernel's results are held against.
#pragma once

#include <limits>
#include <string>
#include <vector>

#include "mlx_kd/spec/op/port.h"

namespace mlx_kd::spec {

// How inputs of a proof are drawn.
enum class Distribution {
  normal,      // standard normal
  magnitudes,  // log-uniform: over the whole range, large ones only, tiny ones only (by seed)
  special,  // normal, with infinities, NaN, signed zeros and subnormals where the op defines them
};
std::string name_of(Distribution distribution);

// One case of a proof: what goes in, what came out. Arrays are row-major, in the order of the op's
// ports.
struct JudgedCase {
  std::vector<const void*> inputs, outputs;
  Dtype t = Dtype::float32;
  Dims dims;  // complete
  std::vector<double> scalars;
  Distribution distribution = Distribution::normal;
};

// The float64 values of one output judged by its bound, one entry per element.
// |y - y64| <= u rounded + (accumulated 2^-24 + approximate) terms + absolute + tiny, with u the
// unit roundoff of the output's type.
struct Reference64 {
  std::vector<double> y;  // without intermediate rounding
  // Sum of the magnitudes of what is rounded to the type on the way to the element, carried to the
  // result; the stored result is one of them.
  std::vector<double> rounded;
  // S: sum of the magnitudes of the terms that made the element.
  std::vector<double> terms;
  // What flushing subnormals on the way may cost, as it is. Empty: nothing.
  std::vector<double> absolute = {};
};

// The absolute error of an element that a reference leaves out: any finite number is right.
constexpr double kUnchecked = std::numeric_limits<float>::max();

struct ErrorBound {
  // float32 roundings charged on S, for the given dims; probabilistic where long sums are meant:
  // lambda sqrt(n) (Higham and Mary 2019, SIAM J. Sci. Comput. 41(5), theorem 2.4).
  double accumulated = 0;
  std::string derivation;  // one or two sentences; printed by `kd ops --json`
};

// One residual of a case; accepted if ratio <= limit (NaN is not).
struct Residual {
  std::string name;  // "|A - L L^T| / (n |A| eps)"
  double ratio = 0;
  double limit = 30;
};

}  // namespace mlx_kd::spec
