#include "mlx_kd/kernels/linalg/judges.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace mlx_kd::kernels::linalg {
namespace {

int64_t attribute_of(const spec::Dims& dims, const std::string& name) {
  return dims.has(name) ? dims.at(name) : 0;
}

void swap_rows(Matrix& a, int64_t i, int64_t k) {
  std::swap_ranges(a.row(i), a.row(i) + a.columns, a.row(k));
}

// What rounding may leave of each column.
std::vector<double> doubts_of(const Matrix& a, double eps) {
  std::vector<double> most(static_cast<size_t>(a.columns));
  for (int64_t i = 0; i < a.rows; ++i)
    for (int64_t j = 0; j < a.columns; ++j) {
      double& of_column = most[static_cast<size_t>(j)];
      of_column = std::max(of_column, std::fabs(a.row(i)[j]));
    }
  for (double& each : most) each *= 30 * static_cast<double>(std::max(a.rows, a.columns)) * eps;
  return most;
}

struct Found {
  double ratio = 0, wrong_info = 0, not_nan = 0, garbage = 0;
};

std::vector<spec::Residual> report(const Found& found, bool is_inverse) {
  return {{is_inverse ? "|I - A X| / (n |A| |X| eps)" : "|A X - B| / (|A| |X| eps)", found.ratio},
          {"the count of elements of the other triangle that are not 0", found.garbage, 0},
          {"the count of wrong info", found.wrong_info, 0},
          {"the count of failed matrices that are not all NaN", found.not_nan, 0}};
}

Matrix read_result(const spec::JudgedCase& judged, int64_t m, bool is_inverse) {
  const int64_t n = judged.dims.at("n");
  return read(judged.outputs[0], m, n, is_inverse ? n : judged.dims.at("k"), judged.t);
}

// Ratio of one solution; `factors` as in the header.
double ratio_of(const spec::JudgedCase& judged, int64_t m, const std::vector<Matrix>& factors,
                const Matrix& x, bool is_inverse) {
  Matrix product = x;
  double norm = 1;
  for (auto each = factors.rbegin(); each != factors.rend(); ++each) {
    product = *each * product;
    norm *= norm1(*each);
  }
  const int64_t n = judged.dims.at("n");
  const Matrix sides = is_inverse ? identity(n) : read(judged.inputs[1], m, n, x.columns, judged.t);
  const double eps = spec::unit_roundoff(judged.t);
  const double scale = norm * norm1(x) * eps * (is_inverse ? static_cast<double>(n) : 1);
  const double rest = norm1(product - sides);
  return rest == 0 ? 0 : rest / scale;
}

}  // namespace

Factors factored(const Matrix& a, double eps) {
  Factors made{a, std::vector<int64_t>(static_cast<size_t>(a.rows)), false, 0, 0};
  std::iota(made.order.begin(), made.order.end(), 0);
  Matrix& w = made.lu;
  const std::vector<double> doubts = doubts_of(a, eps);
  for (int64_t k = 0; k < std::min(a.rows, a.columns); ++k) {
    int64_t row = k;
    for (int64_t i = k + 1; i < a.rows; ++i)
      if (std::fabs(w.row(i)[k]) > std::fabs(w.row(row)[k])) row = i;
    const double pivot = w.row(row)[k];
    if (made.zero == 0 && pivot == 0) made.zero = k + 1;
    if (made.doubtful == 0 && std::fabs(pivot) <= doubts[static_cast<size_t>(k)])
      made.doubtful = k + 1;
    if (pivot == 0) continue;
    if (row != k) {
      swap_rows(w, row, k);
      std::swap(made.order[static_cast<size_t>(row)], made.order[static_cast<size_t>(k)]);
      made.is_odd = !made.is_odd;
    }
    for (int64_t i = k + 1; i < a.rows; ++i) {
      const double factor = w.row(i)[k] /= pivot;
      for (int64_t j = k + 1; j < a.columns; ++j) w.row(i)[j] -= factor * w.row(k)[j];
    }
  }
  return made;
}

Matrix solved(const Factors& factors, const Matrix& b) {
  const Matrix& lu = factors.lu;
  Matrix x(b.rows, b.columns);
  for (int64_t i = 0; i < b.rows; ++i)
    std::copy_n(b.row(factors.order[static_cast<size_t>(i)]), b.columns, x.row(i));
  const auto subtract = [&](int64_t i, int64_t k) {
    for (int64_t j = 0; j < b.columns; ++j) x.row(i)[j] -= lu.row(i)[k] * x.row(k)[j];
  };
  for (int64_t i = 0; i < b.rows; ++i)
    for (int64_t k = 0; k < i; ++k) subtract(i, k);
  for (int64_t i = b.rows - 1; i >= 0; --i) {
    for (int64_t k = i + 1; k < b.rows; ++k) subtract(i, k);
    for (int64_t j = 0; j < b.columns; ++j) x.row(i)[j] /= lu.row(i)[i];
  }
  return x;
}

bool Expected::allows(int64_t info) const {
  if (is_spoilt) return info > 0;
  if (must > 0) return info == must;
  return info == 0 || (from > 0 && info >= from);
}

Expected expected_info(const Matrix& a, double eps) {
  if (!is_finite(a)) return {true, 0, 0};
  const Factors made = factored(a, eps);
  if (made.zero > 0 && made.zero == made.doubtful) return {false, made.zero, 0};
  return {false, 0, made.doubtful};
}

std::vector<spec::Residual> general_residuals(const spec::JudgedCase& judged, bool is_inverse) {
  const int64_t n = judged.dims.at("n");
  Found found;
  for (const int64_t m : judged_matrices(judged)) {
    const Matrix a = read(judged.inputs[0], m, n, n, judged.t);
    const Matrix x = read_result(judged, m, is_inverse);
    const int64_t info = spec::load_integer(judged.outputs[1], m, spec::Dtype::int32);
    found.wrong_info += !expected_info(a, spec::unit_roundoff(judged.t)).allows(info);
    if (info == 0)
      take(found.ratio, ratio_of(judged, m, {a}, x, is_inverse));
    else
      found.not_nan += !is_all_nan(x);
  }
  return report(found, is_inverse);
}

Matrix read_triangle(const spec::JudgedCase& judged, int64_t m) {
  const int64_t n = judged.dims.at("n");
  return triangle_of(read(judged.inputs[0], m, n, n, judged.t),
                     attribute_of(judged.dims, "upper") != 0,
                     attribute_of(judged.dims, "unit") != 0);
}

namespace {

// The first row, from 1, with 0 on the diagonal or an element that is not finite; 0: none.
int64_t first_bad_row(const Matrix& triangle) {
  for (int64_t i = 0; i < triangle.rows; ++i) {
    const double* const row = triangle.row(i);
    if (row[i] == 0 ||
        !std::all_of(row, row + triangle.columns, [](double x) { return std::isfinite(x); }))
      return i + 1;
  }
  return 0;
}

}  // namespace

std::vector<Matrix> factor_and_transpose(const spec::JudgedCase& judged, int64_t m) {
  const Matrix t = read_triangle(judged, m), other = transposed(t);
  if (judged.dims.at("upper") != 0) return {other, t};
  return {t, other};
}

std::vector<spec::Residual> triangular_residuals(const spec::JudgedCase& judged, bool is_inverse,
                                                 const FactorsOf& factors) {
  Found found;
  for (const int64_t m : judged_matrices(judged)) {
    const Matrix x = read_result(judged, m, is_inverse);
    const int64_t expected = first_bad_row(read_triangle(judged, m));
    found.wrong_info += spec::load_integer(judged.outputs[1], m, spec::Dtype::int32) != expected;
    if (expected != 0) {
      found.not_nan += !is_all_nan(x);
      continue;
    }
    const std::vector<Matrix> parts = factors(judged, m);
    take(found.ratio, ratio_of(judged, m, parts, x, is_inverse));
    if (is_inverse && parts.size() == 1)
      found.garbage += outside_triangle(x, attribute_of(judged.dims, "upper") != 0);
  }
  return report(found, is_inverse);
}

void fill_triangles(const spec::FillRequest& request) {
  using spec::Distribution;
  const int64_t n = request.dims.at("n");
  const bool upper = attribute_of(request.dims, "upper") != 0;
  base::Random random(request.seed * 31 + static_cast<uint64_t>(request.distribution));
  for (int64_t m = 0; m < request.dims.at("batch"); ++m) {
    const Kind kind = kind_of(m, request, true);
    Matrix a = make(kind, n, n, request.t, random);
    for (int64_t i = 0; i < n; ++i) {
      // Off the diagonal at most as large as it in all: solutions grow no faster than the
      // condition.
      for (int64_t j = 0; j < n; ++j) a.row(i)[j] *= scale_of(m, request) / static_cast<double>(n);
      a.row(i)[i] += scale_of(m, request) * (i % 3 == 1 ? -1.5 : 1.5);
      if (kind == Kind::graded)
        for (int64_t j = 0; j < n; ++j)
          a.row(i)[j] *= std::pow(1e-4, static_cast<double>(i) / static_cast<double>(n));
    }
    const Fault fault = fault_of(m, request);
    const auto row = static_cast<int64_t>(random.below(static_cast<uint64_t>(n)));
    if (fault == Fault::zero_column) a.row(row)[row] = 0;
    if (fault == Fault::nan || fault == Fault::infinity) spoil(a, fault, random);
    for (int64_t i = 0; i < n && request.distribution == Distribution::magnitudes; ++i)
      for (int64_t j = 0; j < n; ++j)
        if (upper ? j < i : j > i) a.row(i)[j] = std::numeric_limits<double>::quiet_NaN();
    write(a, request.inputs[0], m, request.t);
  }
}

void fill_sides(const spec::FillRequest& request) {
  base::Random random(request.seed * 37 + static_cast<uint64_t>(request.distribution) + 5);
  const int64_t n = request.dims.at("n"), k = request.dims.at("k");
  for (int64_t i = 0; i < request.dims.at("batch") * n * k; ++i)
    spec::store_number(request.inputs[1], i, request.t, random.normal());
}

}  // namespace mlx_kd::kernels::linalg
