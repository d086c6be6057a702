#include "mlx_kd/kernels/linalg/lu/residuals.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "mlx_kd/kernels/linalg/judges.h"

namespace mlx_kd::kernels::lu {
namespace {

using linalg::Matrix;

std::vector<int64_t> read_rows(const void* data, int64_t m, int64_t count) {
  std::vector<int64_t> rows;
  for (int64_t i = 0; i < count; ++i)
    rows.push_back(spec::load_integer(data, m * count + i, spec::Dtype::uint32));
  return rows;
}

// Where the exchanges of rows bring each row; empty: one is out of range.
std::vector<int64_t> exchanged(const std::vector<int64_t>& pivots, int64_t rows) {
  std::vector<int64_t> order(static_cast<size_t>(rows));
  std::iota(order.begin(), order.end(), 0);
  for (size_t i = 0; i < pivots.size(); ++i) {
    if (pivots[i] < static_cast<int64_t>(i) || pivots[i] >= rows) return {};
    std::swap(order[i], order[static_cast<size_t>(pivots[i])]);
  }
  return order;
}

double ratio_of(const Matrix& a, const Matrix& lu, const std::vector<int64_t>& order, double eps) {
  const int64_t k = std::min(a.rows, a.columns);
  Matrix l(a.rows, k), u(k, a.columns), moved(a.rows, a.columns);
  for (int64_t i = 0; i < a.rows; ++i) {
    std::copy_n(a.row(order[static_cast<size_t>(i)]), a.columns, moved.row(i));
    for (int64_t j = 0; j < std::min(i, k); ++j) l.row(i)[j] = lu.row(i)[j];
    if (i >= k) continue;
    l.row(i)[i] = 1;
    std::copy(lu.row(i) + i, lu.row(i) + a.columns, u.row(i) + i);
  }
  const double rest = linalg::norm1(moved - l * u);
  const auto most = static_cast<double>(std::max(a.rows, a.columns));
  return rest == 0 ? 0 : rest / (most * linalg::norm1(a) * eps);
}

// Elements of L above 1, which partial pivoting never makes.
double large_factors(const Matrix& lu, double eps) {
  double count = 0;
  for (int64_t i = 0; i < lu.rows; ++i)
    for (int64_t j = 0; j < std::min(i, lu.columns); ++j)
      count += !(std::fabs(lu.row(i)[j]) <= 1 + 4 * eps);
  return count;
}

}  // namespace

std::vector<spec::Residual> residuals(const spec::JudgedCase& judged) {
  const int64_t m = judged.dims.at("m"), n = judged.dims.at("n");
  double ratio = 0, wrong_order = 0, large = 0, wrong_info = 0, not_nan = 0;
  const double eps = spec::unit_roundoff(judged.t);
  for (const int64_t each : linalg::judged_matrices(judged)) {
    const Matrix a = linalg::read(judged.inputs[0], each, m, n, judged.t);
    const Matrix lu = linalg::read(judged.outputs[0], each, m, n, judged.t);
    const auto order = read_rows(judged.outputs[2], each, m);
    wrong_order += exchanged(read_rows(judged.outputs[1], each, std::min(m, n)), m) != order;
    const int64_t info = spec::load_integer(judged.outputs[3], each, spec::Dtype::int32);
    wrong_info += (info != 0) == linalg::is_finite(a);
    if (info != 0) {
      not_nan += !linalg::is_all_nan(lu);
      continue;
    }
    if (wrong_order == 0) linalg::take(ratio, ratio_of(a, lu, order, eps));
    large += large_factors(lu, eps);
  }
  return {{"|P A - L U| / (max(m, n) |A| eps)", ratio},
          {"the count of elements of L above 1", large, 0},
          {"the count of permutations that are not what the pivots make", wrong_order, 0},
          {"the count of wrong info", wrong_info, 0},
          {"the count of failed matrices that are not all NaN", not_nan, 0}};
}

}  // namespace mlx_kd::kernels::lu
