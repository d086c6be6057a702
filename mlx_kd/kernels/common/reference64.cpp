#include "mlx_kd/kernels/common/reference64.h"

#include <cmath>
#include <limits>

namespace mlx_kd::kernels {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

struct Scale {
  double value;
  bool overflows;  // a sum of finite squares that float32 may not hold
};

Scale scale_of(const double* row, int64_t d, double eps) {
  double sum = 0;
  for (int64_t j = 0; j < d; ++j) sum += row[j] * row[j];
  const double mean = sum / static_cast<double>(d);
  return {1 / std::sqrt(mean + eps), std::isfinite(sum) && sum > 0x1p127};
}

}  // namespace

std::vector<double> load_all(const void* data, int64_t count, spec::Dtype dtype) {
  std::vector<double> values(static_cast<size_t>(count));
  for (int64_t i = 0; i < count; ++i)
    values[static_cast<size_t>(i)] = spec::load_element(data, i, dtype);
  return values;
}

void append(spec::Reference64& reference, const Charged& element) {
  reference.y.push_back(element.y);
  reference.rounded.push_back(element.rounded);
  reference.terms.push_back(element.terms);
  reference.absolute.push_back(element.absolute);
}

double underflow(spec::Dtype dtype) {
  return dtype == spec::Dtype::float16 ? spec::smallest_subnormal(dtype) : 0x1p-126;
}

void saturate(spec::Reference64& reference, spec::Dtype dtype, double accumulated) {
  const double u = spec::unit_roundoff(dtype), largest = spec::largest_finite(dtype);
  const double limit = largest + std::exp2(std::ilogb(largest)) * u;
  for (size_t i = 0; i < reference.y.size(); ++i) {
    double& y = reference.y[i];
    const double margin = u * reference.rounded[i] + accumulated * 0x1p-24 * reference.terms[i];
    if (std::fabs(y) < limit - margin || !std::isfinite(y)) continue;
    if (std::fabs(y) <= limit + margin) reference.terms[i] = kInfinity;
    if (std::fabs(y) >= limit) y = std::copysign(kInfinity, y);
  }
}

spec::Reference64 norm_reference(const std::vector<double>& x, const std::vector<double>& w,
                                 double eps, spec::Dtype dtype, double roundings,
                                 double accumulated) {
  spec::Reference64 result;
  const auto d = static_cast<int64_t>(w.size());
  for (size_t row = 0; row < x.size(); row += w.size()) {
    const Scale scale = scale_of(&x[row], d, static_cast<float>(eps));
    for (size_t j = 0; j < w.size(); ++j) {
      const double y = x[row + j] * scale.value * w[j];
      append(result, {y, roundings * std::fabs(y), scale.overflows ? kInfinity : std::fabs(y),
                      underflow(dtype) * (1 + std::fabs(w[j]))});
    }
  }
  saturate(result, dtype, accumulated);
  return result;
}

double norm_roundings(int64_t d) {
  // Half of: lambda sqrt(d) for the sum with lambda 6, and 1 each for square, 1/d, mean and eps; 1
  // for the square root, 1 for the quotient or 4 for an estimate with a Newton step; 1 for x scale.
  return 3 * std::sqrt(static_cast<double>(d)) + 2 + 1 + 4 + 1;
}

}  // namespace mlx_kd::kernels
