#include "mlx_kd/kernels/linalg/slogdet/residuals.h"

#include <cmath>

#include "mlx_kd/kernels/linalg/judges.h"

namespace mlx_kd::kernels::slogdet {
namespace {

using linalg::Matrix;

struct Found {
  double ratio = 0, wrong_sign = 0, wrong_info = 0, wrong_failure = 0;
};

// Where the condition is beyond the type, nothing is held against the numbers.
void judge_determinant(const Matrix& a, double sign, double log, double eps, Found& found) {
  const linalg::Factors made = linalg::factored(a, eps);
  if (made.zero > 0) return;
  double log64 = 0, sign64 = made.is_odd ? -1 : 1;
  for (int64_t i = 0; i < a.rows; ++i) {
    log64 += std::log(std::fabs(made.lu.row(i)[i]));
    if (made.lu.row(i)[i] < 0) sign64 = -sign64;
  }
  const double inverse = linalg::norm1(linalg::solved(made, linalg::identity(a.rows)));
  const double size = static_cast<double>(a.rows) * eps;
  const double bound = size * linalg::norm1(a) * inverse + eps * std::fabs(log64);
  if (!(30 * bound < 0.5)) return;
  found.wrong_sign += sign != sign64;
  linalg::take(found.ratio, std::fabs(log - log64) / bound);
}

// 0 and -infinity of a singular matrix, NaN of one that is not finite.
bool is_right_failure(const Matrix& a, double sign, double log) {
  if (!linalg::is_finite(a)) return std::isnan(sign) && std::isnan(log);
  return sign == 0 && std::isinf(log) && log < 0;
}

}  // namespace

std::vector<spec::Residual> residuals(const spec::JudgedCase& judged) {
  const int64_t n = judged.dims.at("n");
  const double eps = spec::unit_roundoff(judged.t);
  Found found;
  for (const int64_t m : linalg::judged_matrices(judged)) {
    const Matrix a = linalg::read(judged.inputs[0], m, n, n, judged.t);
    const double sign = spec::load_number(judged.outputs[0], m, judged.t);
    const double log = spec::load_number(judged.outputs[1], m, judged.t);
    const int64_t info = spec::load_integer(judged.outputs[2], m, spec::Dtype::int32);
    found.wrong_info += !linalg::expected_info(a, eps).allows(info);
    if (info == 0)
      judge_determinant(a, sign, log, eps, found);
    else
      found.wrong_failure += !is_right_failure(a, sign, log);
  }
  return {{"|log - log64| / (n eps cond(A) + eps |log64|)", found.ratio},
          {"the count of wrong signs", found.wrong_sign, 0},
          {"the count of wrong info", found.wrong_info, 0},
          {"the count of wrong results of singular matrices and those with NaN",
           found.wrong_failure, 0}};
}

}  // namespace mlx_kd::kernels::slogdet
