#include "mlx_kd/kernels/linalg/qr/residuals.h"

#include <algorithm>
#include <cmath>

#include "mlx_kd/kernels/linalg/matrices.h"

namespace mlx_kd::kernels::qr {
namespace {

using linalg::Matrix;

struct Found {
  double residual = 0, orthogonality = 0, garbage = 0, wrong_info = 0, not_nan = 0;
};

// The first column, from 1, that is not finite; 0: all are.
int64_t first_spoilt_column(const Matrix& a) {
  for (int64_t j = 0; j < a.columns; ++j)
    for (int64_t i = 0; i < a.rows; ++i)
      if (!std::isfinite(a.row(i)[j])) return j + 1;
  return 0;
}

double relative(double residual, double scale) {
  return residual == 0 ? 0 : residual / scale;
}

void judge_factors(const Matrix& a, const Matrix& q, const Matrix& r, bool only_r, double eps,
                   Found& found) {
  const auto most = static_cast<double>(std::max(a.rows, a.columns));
  const double norm = linalg::norm1(a);
  found.garbage += linalg::outside_triangle(r, true);
  if (only_r) {
    const Matrix rest = linalg::transposed(r) * r - linalg::transposed(a) * a;
    // Of the two sides, the norms of A and its transpose bound |A^T A|.
    const double squares = norm * linalg::norm1(linalg::transposed(a));
    linalg::take(found.residual, relative(linalg::norm1(rest), most * squares * eps));
    return;
  }
  linalg::take(found.residual, relative(linalg::norm1(a - q * r), most * norm * eps));
  const Matrix rest = linalg::identity(q.columns) - linalg::transposed(q) * q;
  linalg::take(found.orthogonality, linalg::norm1(rest) / (static_cast<double>(a.rows) * eps));
}

}  // namespace

std::vector<spec::Residual> residuals(const spec::JudgedCase& judged) {
  const int64_t m = judged.dims.at("m"), n = judged.dims.at("n"), mode = judged.dims.at("mode");
  const int64_t wide = mode == kComplete ? m : std::min(m, n), wide_q = mode == kOnlyR ? 0 : wide;
  Found found;
  for (const int64_t each : linalg::judged_matrices(judged)) {
    const Matrix a = linalg::read(judged.inputs[0], each, m, n, judged.t);
    const Matrix q = linalg::read(judged.outputs[0], each, m, wide_q, judged.t);
    const Matrix r = linalg::read(judged.outputs[1], each, wide, n, judged.t);
    const int64_t expected = first_spoilt_column(a);
    found.wrong_info += spec::load_integer(judged.outputs[2], each, spec::Dtype::int32) != expected;
    if (expected == 0)
      judge_factors(a, q, r, mode == kOnlyR, spec::unit_roundoff(judged.t), found);
    else
      found.not_nan += !(linalg::is_all_nan(q) && linalg::is_all_nan(r));
  }
  return {{mode == kOnlyR ? "|R^T R - A^T A| / (max(m, n) |A| |A^T| eps)"
                          : "|A - Q R| / (max(m, n) |A| eps)",
           found.residual},
          {"|I - Q^T Q| / (m eps)", found.orthogonality},
          {"the count of elements below the diagonal of R that are not 0", found.garbage, 0},
          {"the count of wrong info", found.wrong_info, 0},
          {"the count of failed matrices that are not all NaN", found.not_nan, 0}};
}

}  // namespace mlx_kd::kernels::qr
