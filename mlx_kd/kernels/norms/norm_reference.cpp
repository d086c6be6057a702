#include "mlx_kd/kernels/norms/norm_reference.h"

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

void write_special_row(void* x, int64_t row, int64_t d, spec::Dtype dtype) {
  const auto put = [&](int64_t j, double value) {
    spec::store_element(x, row * d + j, dtype, static_cast<float>(value));
  };
  if (row == 0) put(d / 2, -kInfinity);
  if (row == 1) put(d / 3, std::numeric_limits<double>::quiet_NaN());
  for (int64_t j = 0; j < d && row >= 2; ++j)
    put(j, (j % 2 ? -1 : 1) *
               (row == 2 ? 0.0 : spec::smallest_subnormal(dtype) * static_cast<double>(j % 9)));
}

}  // namespace mlx_kd::kernels
