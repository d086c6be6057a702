#include "mlx_kd/kernels/common/reference64.h"

#include <cmath>
#include <limits>

namespace mlx_kd::kernels {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

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

}  // namespace mlx_kd::kernels
