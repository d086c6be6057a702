#include "mlx_kd/kernels/linalg/cholesky/residuals.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "mlx_kd/base/random.h"
#include "mlx_kd/kernels/linalg/matrices.h"

namespace mlx_kd::kernels::cholesky {
namespace {

using spec::Distribution;
using spec::Dtype;

// A square matrix by rows.
struct Matrix {
  int64_t n;
  std::vector<double> values;

  explicit Matrix(int64_t size) : n(size), values(static_cast<size_t>(size * size)) {}
  double* row(int64_t i) { return values.data() + i * n; }
  const double* row(int64_t i) const { return values.data() + i * n; }
};

// ---- fill

Matrix random_matrix(int64_t n, base::Random& random) {
  constexpr int64_t kRank = 8;
  std::vector<double> g(static_cast<size_t>(n * kRank));
  for (double& x : g) x = 2 * random.uniform() - 1;
  Matrix a(n);
  for (int64_t i = 0; i < n; ++i)
    for (int64_t j = 0; j <= i; ++j) {
      double sum = i == j;
      for (int64_t k = 0; k < kRank; ++k)
        sum +=
            g[static_cast<size_t>(i * kRank + k)] * g[static_cast<size_t>(j * kRank + k)] / kRank;
      a.row(i)[j] = a.row(j)[i] = sum;
    }
  return a;
}

// D A D, the squares of D's elements from 1 down to 2^-least_exponent.
void grade(Matrix& a, double least_exponent) {
  const auto d = [&](int64_t i) {
    return std::exp2(
        -std::floor(least_exponent / 2 * static_cast<double>(i) / static_cast<double>(a.n)));
  };
  for (int64_t i = 0; i < a.n; ++i)
    for (int64_t j = 0; j < a.n; ++j) a.row(i)[j] *= d(i) * d(j);
}

Matrix shifted_hilbert(int64_t n) {
  Matrix a(n);
  for (int64_t i = 0; i < n; ++i)
    for (int64_t j = 0; j < n; ++j)
      a.row(i)[j] = 1 / static_cast<double>(i + j + 1) + (i == j ? 0.25 : 0);
  return a;
}

// Not positive definite, or a NaN at a place of both triangles.
void spoil(Matrix& a, bool with_nan, base::Random& random) {
  const auto i = static_cast<int64_t>(random.below(static_cast<uint64_t>(a.n)));
  const auto j = static_cast<int64_t>(random.below(static_cast<uint64_t>(i) + 1));
  if (with_nan)
    a.row(i)[j] = a.row(j)[i] = std::numeric_limits<double>::quiet_NaN();
  else
    a.row(i)[i] = -8;
}

Matrix make_matrix(int64_t m, const spec::FillRequest& request, base::Random& random) {
  const int64_t n = request.dims.at("n"), kind = m + static_cast<int64_t>(request.seed);
  Matrix a = kind % 3 == 2 ? shifted_hilbert(n) : random_matrix(n, random);
  if (kind % 3 == 1) grade(a, request.t == Dtype::float16 ? 10 : 40);
  if (request.distribution == Distribution::special && kind % 2 == 1)
    spoil(a, kind % 4 == 3, random);
  return a;
}

// ---- residuals

// The symmetric matrix of which one triangle is read.
Matrix read_symmetric(const void* data, int64_t at, Dtype t, int64_t n, bool upper) {
  Matrix a(n);
  for (int64_t i = 0; i < n; ++i)
    for (int64_t j = 0; j <= i; ++j)
      a.row(i)[j] = a.row(j)[i] = spec::load_number(data, at + (upper ? j * n + i : i * n + j), t);
  return a;
}

// L, whichever triangle was asked for.
Matrix read_factor(const void* data, int64_t at, Dtype t, int64_t n, bool upper) {
  Matrix l(n);
  for (int64_t i = 0; i < n; ++i)
    for (int64_t j = 0; j < n; ++j)
      (upper ? l.row(j)[i] : l.row(i)[j]) = spec::load_number(data, at + i * n + j, t);
  return l;
}

// The order of the first leading minor that is not positive; 0: there is none.
int64_t first_bad_minor(Matrix a) {
  for (int64_t k = 0; k < a.n; ++k) {
    double* const pivot = a.row(k);
    if (!(pivot[k] > 0)) return k + 1;
    for (int64_t i = k + 1; i < a.n; ++i) {
      const double factor = pivot[i] / pivot[k];
      for (int64_t j = i; j < a.n; ++j) a.row(i)[j] -= factor * pivot[j];
    }
  }
  return 0;
}

double dot(const double* x, const double* y, int64_t count) {
  double parts[8] = {};
  int64_t k = 0;
  for (; k + 8 <= count; k += 8)
    for (int p = 0; p < 8; ++p) parts[p] += x[k + p] * y[k + p];
  for (; k < count; ++k) parts[0] += x[k] * y[k];
  double sum = 0;
  for (const double part : parts) sum += part;
  return sum;
}

// |A - L L^T|_1 / |A|_1; NaN if L has one.
double relative_residual(const Matrix& a, const Matrix& l) {
  std::vector<double> of_a(static_cast<size_t>(a.n)), of_rest(static_cast<size_t>(a.n));
  for (int64_t i = 0; i < a.n; ++i)
    for (int64_t j = 0; j <= i; ++j) {
      const double rest = std::fabs(a.row(i)[j] - dot(l.row(i), l.row(j), j + 1));
      const double element = std::fabs(a.row(i)[j]);
      of_rest[static_cast<size_t>(j)] += rest, of_a[static_cast<size_t>(j)] += element;
      if (i == j) continue;
      of_rest[static_cast<size_t>(i)] += rest, of_a[static_cast<size_t>(i)] += element;
    }
  double largest = 0;
  for (const double sum : of_rest) linalg::take(largest, sum);
  return largest / *std::max_element(of_a.begin(), of_a.end());
}

// What is counted over all matrices of a case.
struct Found {
  double ratio = 0, garbage = 0, not_positive = 0, wrong_info = 0, not_nan = 0;
};

void judge_factor(const Matrix& a, const Matrix& l, Dtype t, Found& found) {
  // n roundings of float32 or float64; where the type is shorter, one more when L is stored.
  const double u = spec::unit_roundoff(t), computed = std::min(u, 0x1p-24);
  const double stored = u > computed ? u : 0;
  const double ratio = relative_residual(a, l) / (static_cast<double>(a.n) * computed + stored);
  linalg::take(found.ratio, ratio);
  for (int64_t i = 0; i < l.n; ++i) {
    found.not_positive += !(l.row(i)[i] > 0);
    for (int64_t j = i + 1; j < l.n; ++j) found.garbage += l.row(i)[j] != 0;
  }
}

}  // namespace

void fill(const spec::FillRequest& request) {
  const int64_t n = request.dims.at("n");
  const bool upper = request.dims.at("upper") != 0;
  base::Random random(request.seed * 31 + static_cast<uint64_t>(request.distribution));
  for (int64_t m = 0; m < request.dims.at("batch"); ++m) {
    const Matrix a = make_matrix(m, request, random);
    for (int64_t i = 0; i < n; ++i)
      for (int64_t j = 0; j < n; ++j) {
        const bool read = upper ? j >= i : j <= i;
        const bool other = request.distribution == Distribution::magnitudes && !read;
        spec::store_number(request.inputs[0], (m * n + i) * n + j, request.t,
                           other ? 7 : a.row(i)[j]);
      }
  }
}

std::vector<spec::Residual> residuals(const spec::JudgedCase& judged) {
  const int64_t n = judged.dims.at("n");
  const bool upper = judged.dims.at("upper") != 0;
  Found found;
  for (int64_t m = 0; m < judged.dims.at("batch"); ++m) {
    const Matrix a = read_symmetric(judged.inputs[0], m * n * n, judged.t, n, upper);
    const Matrix l = read_factor(judged.outputs[0], m * n * n, judged.t, n, upper);
    const int64_t expected = first_bad_minor(a);
    found.wrong_info += spec::load_integer(judged.outputs[1], m, Dtype::int32) != expected;
    if (expected == 0)
      judge_factor(a, l, judged.t, found);
    else
      for (const double value : l.values) found.not_nan += !std::isnan(value);
  }
  return {{"|A - L L^T| / (|A| (n eps + u))", found.ratio},
          {"the count of elements of the other triangle that are not 0", found.garbage, 0},
          {"the count of diagonal elements that are not positive", found.not_positive, 0},
          {"the count of wrong info", found.wrong_info, 0},
          {"the count of elements of failed matrices that are not NaN", found.not_nan, 0}};
}

}  // namespace mlx_kd::kernels::cholesky
