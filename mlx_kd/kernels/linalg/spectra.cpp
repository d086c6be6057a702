#include "mlx_kd/kernels/linalg/spectra.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace mlx_kd::kernels::spectra {
namespace {

using spec::Distribution;
using spec::Dtype;

Matrix random_entries(int64_t m, int64_t n, base::Random& random) {
  Matrix a(m, n);
  for (double& x : a.values) x = 2 * random.uniform() - 1;
  return a;
}

// Of rank (min(m, n) + 1) / 2.
Matrix low_rank(int64_t m, int64_t n, base::Random& random) {
  const int64_t rank = (std::min(m, n) + 1) / 2;
  return random_entries(m, rank, random) * random_entries(rank, n, random);
}

// Columns, and rows if symmetric, from 1 down to 1e-6.
void grade_by_columns(Matrix& a, bool rows_too) {
  const auto factor = [&](int64_t j) {
    return std::pow(10.0, -6 * static_cast<double>(j) / static_cast<double>(a.columns));
  };
  for (int64_t i = 0; i < a.rows; ++i)
    for (int64_t j = 0; j < a.columns; ++j) a.at(i, j) *= factor(j) * (rows_too ? factor(i) : 1);
}

void make_symmetric(Matrix& a) {
  for (int64_t i = 0; i < a.rows; ++i)
    for (int64_t j = 0; j < i; ++j) a.at(j, i) = a.at(i, j);
}

void spoil_one(Matrix& a, bool with_nan, bool symmetric, base::Random& random) {
  const auto i = static_cast<int64_t>(random.below(static_cast<uint64_t>(a.rows)));
  const auto j = static_cast<int64_t>(random.below(static_cast<uint64_t>(a.columns)));
  const double value =
      with_nan ? std::numeric_limits<double>::quiet_NaN() : std::numeric_limits<double>::infinity();
  a.at(i, j) = value;
  if (symmetric) a.at(j, i) = value;
}

// Powers of two that leave the largest elements well inside the type.
double scale_of(Dtype t, uint64_t seed) {
  const double exponent = t == Dtype::float16 ? 8 : 60;
  return std::exp2(seed % 2 ? exponent : -exponent);
}

double dot(const double* x, const double* y, int64_t count) {
  double sum = 0;
  for (int64_t i = 0; i < count; ++i) sum += x[i] * y[i];
  return sum;
}

// Whether the two rows were not orthogonal.
bool turn_pair(double* p, double* q, int64_t count) {
  const double pp = dot(p, p, count), qq = dot(q, q, count), pq = dot(p, q, count);
  if (!(std::fabs(pq) > 0x1p-50 * std::sqrt(pp * qq))) return false;
  const double zeta = (qq - pp) / (2 * pq);
  const double t = std::copysign(1 / (std::fabs(zeta) + std::hypot(1, zeta)), zeta);
  const double c = 1 / std::hypot(1, t), s = c * t;
  for (int64_t i = 0; i < count; ++i) {
    const double x = p[i], y = q[i];
    p[i] = c * x - s * y, q[i] = s * x + c * y;
  }
  return true;
}

}  // namespace

Matrix proof_matrix(int64_t m, int64_t n, bool symmetric, int64_t index,
                    const spec::FillRequest& request, base::Random& random) {
  const int64_t kind = index + static_cast<int64_t>(request.seed);
  Matrix a = kind % 4 == 2   ? linalg::hilbert(m, n)
             : kind % 4 == 3 ? low_rank(m, n, random)
                             : random_entries(m, n, random);
  if (kind % 4 == 1) grade_by_columns(a, symmetric);
  if (symmetric) make_symmetric(a);
  if (request.distribution == Distribution::magnitudes)
    for (double& x : a.values) x *= scale_of(request.t, request.seed);
  if (request.distribution == Distribution::special && kind % 3 == 1)
    spoil_one(a, kind % 2 == 1, symmetric, random);
  return a;
}

Matrix read_matrix(const void* data, int64_t at, Dtype t, int64_t m, int64_t n) {
  Matrix a(m, n);
  for (int64_t e = 0; e < m * n; ++e)
    a.values[static_cast<size_t>(e)] = spec::load_number(data, at + e, t);
  return a;
}

void write_matrix(void* data, int64_t at, Dtype t, const Matrix& a) {
  for (int64_t e = 0; e < a.rows * a.columns; ++e)
    spec::store_number(data, at + e, t, a.values[static_cast<size_t>(e)]);
}

std::vector<double> singular_values(const Matrix& a) {
  Matrix g = a.rows >= a.columns ? linalg::transposed(a) : a;  // its rows are turned
  bool turned = true;
  for (int sweep = 0; sweep < 40 && turned; ++sweep) {
    turned = false;
    for (int64_t p = 0; p < g.rows; ++p)
      for (int64_t q = p + 1; q < g.rows; ++q) turned |= turn_pair(g.row(p), g.row(q), g.columns);
  }
  std::vector<double> values;
  for (int64_t p = 0; p < g.rows; ++p)
    values.push_back(std::sqrt(dot(g.row(p), g.row(p), g.columns)));
  std::sort(values.rbegin(), values.rend());
  return values;
}

double distance_from_orthogonal(const Matrix& q) {
  return linalg::norm1(linalg::transposed(q) * q - linalg::identity(q.columns));
}

double rounding(int64_t size, Dtype t) {
  const double u = spec::unit_roundoff(t), computed = std::min(u, 0x1p-24);
  return static_cast<double>(size) * computed + (u > computed ? u : 0);
}

}  // namespace mlx_kd::kernels::spectra
