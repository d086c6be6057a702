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

double bound_factor(const spec::ErrorBound& bound, spec::Dtype dtype) {
  return bound.roundings * spec::unit_roundoff(dtype) + bound.accumulated * 0x1p-24;
}

double underflow(spec::Dtype dtype) {
  return dtype == spec::Dtype::float16 ? spec::smallest_subnormal(dtype) : 0x1p-126;
}

void saturate(spec::Reference64& reference, spec::Dtype dtype, double factor) {
  const double largest = spec::largest_finite(dtype);
  const double limit = largest + std::exp2(std::ilogb(largest)) * spec::unit_roundoff(dtype);
  for (size_t i = 0; i < reference.y.size(); ++i) {
    double& y = reference.y[i];
    const double margin = factor * reference.scale[i];
    if (std::fabs(y) < limit - margin || !std::isfinite(y)) continue;
    if (std::fabs(y) <= limit + margin) reference.scale[i] = kInfinity;
    if (std::fabs(y) >= limit) y = std::copysign(kInfinity, y);
  }
}

}  // namespace mlx_kd::kernels
