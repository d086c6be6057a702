#include "mlx_kd/kernels/linalg/matrices.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

namespace mlx_kd::kernels::linalg {

using spec::Distribution;
using spec::Dtype;

Matrix read(const void* data, int64_t m, int64_t rows, int64_t columns, Dtype t) {
  Matrix a(rows, columns);
  int64_t from = m * rows * columns;
  for (double& value : a.values) value = spec::load_number(data, from++, t);
  return a;
}

void write(const Matrix& matrix, void* data, int64_t m, Dtype t) {
  int64_t to = m * matrix.rows * matrix.columns;
  for (const double value : matrix.values) spec::store_number(data, to++, t, value);
}

Matrix identity(int64_t n) {
  Matrix a(n, n);
  for (int64_t i = 0; i < n; ++i) a.row(i)[i] = 1;
  return a;
}

Matrix transposed(const Matrix& a) {
  Matrix t(a.columns, a.rows);
  for (int64_t i = 0; i < a.rows; ++i)
    for (int64_t j = 0; j < a.columns; ++j) t.row(j)[i] = a.row(i)[j];
  return t;
}

Matrix operator*(const Matrix& a, const Matrix& b) {
  Matrix c(a.rows, b.columns);
  for (int64_t i = 0; i < a.rows; ++i)
    for (int64_t k = 0; k < a.columns; ++k) {
      const double factor = a.row(i)[k];
      const double* const from = b.row(k);
      double* const to = c.row(i);
      for (int64_t j = 0; j < b.columns; ++j) to[j] += factor * from[j];
    }
  return c;
}

Matrix operator-(const Matrix& a, const Matrix& b) {
  Matrix c = a;
  for (size_t i = 0; i < c.values.size(); ++i) c.values[i] -= b.values[i];
  return c;
}

double norm1(const Matrix& a) {
  std::vector<double> sums(static_cast<size_t>(a.columns));
  for (int64_t i = 0; i < a.rows; ++i)
    for (int64_t j = 0; j < a.columns; ++j) sums[static_cast<size_t>(j)] += std::fabs(a.row(i)[j]);
  double most = 0;
  for (const double sum : sums) take(most, sum);
  return most;
}

bool is_finite(const Matrix& a) {
  return std::all_of(a.values.begin(), a.values.end(), [](double x) { return std::isfinite(x); });
}

bool is_all_nan(const Matrix& a) {
  return std::all_of(a.values.begin(), a.values.end(), [](double x) { return std::isnan(x); });
}

Matrix hilbert(int64_t rows, int64_t columns) {
  Matrix a(rows, columns);
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j = 0; j < columns; ++j) a.at(i, j) = 1 / static_cast<double>(i + j + 1);
  return a;
}

Matrix triangle_of(const Matrix& a, bool upper, bool unit) {
  Matrix t(a.rows, a.columns);
  for (int64_t i = 0; i < a.rows; ++i)
    for (int64_t j = 0; j < a.columns; ++j)
      if (upper ? j >= i : j <= i) t.row(i)[j] = i == j && unit ? 1 : a.row(i)[j];
  return t;
}

double outside_triangle(const Matrix& a, bool upper) {
  double count = 0;
  for (int64_t i = 0; i < a.rows; ++i)
    for (int64_t j = 0; j < a.columns; ++j) count += (upper ? j < i : j > i) && a.row(i)[j] != 0;
  return count;
}

void take(double& worst, double ratio) {
  if (!std::isnan(worst) && !(ratio <= worst)) worst = ratio;
}

std::vector<int64_t> judged_matrices(const spec::JudgedCase& judged) {
  const int64_t batch = judged.dims.at("batch"), step = std::max<int64_t>(1, batch / 64);
  uint64_t seed = 0;  // of the inputs, which differ between cases
  for (int64_t i = 0; i < batch; ++i)
    seed = seed * 31 + std::bit_cast<uint64_t>(spec::load_number(judged.inputs[0], i, judged.t));
  base::Random random(seed);
  std::vector<int64_t> chosen;
  for (int64_t m = 0; m < batch; m += step)
    chosen.push_back(
        m + static_cast<int64_t>(random.below(static_cast<uint64_t>(std::min(step, batch - m)))));
  return chosen;
}

// ---- inputs

Kind kind_of(int64_t m, const spec::FillRequest& request, bool regular) {
  const uint64_t kinds = regular && request.distribution == Distribution::normal ? 2 : 5;
  return static_cast<Kind>((static_cast<uint64_t>(m) + request.seed) % kinds);
}

namespace {

Matrix random_of(int64_t rows, int64_t columns, base::Random& random) {
  Matrix a(rows, columns);
  for (double& x : a.values) x = random.normal();
  return a;
}

}  // namespace

Matrix make(Kind kind, int64_t rows, int64_t columns, Dtype t, base::Random& random) {
  const double near = t == Dtype::float64 ? 200 * 0x1p-53 : 1e-5;
  const int64_t least = std::min(rows, columns);
  if (kind == Kind::hilbert) return hilbert(rows, columns);
  if (kind == Kind::deficient && least > 1) {
    const int64_t rank = std::max<int64_t>(1, least / 2);
    return random_of(rows, rank, random) * random_of(rank, columns, random);
  }
  Matrix a = random_of(rows, columns, random);
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j = 0; j < columns; ++j) {
      if (kind == Kind::graded)  // from 1 down to 1e-6, by columns
        a.row(i)[j] *= std::pow(1e-6, static_cast<double>(j) / static_cast<double>(columns));
      if (kind == Kind::nearly_singular && columns > 1 && j == columns - 1)
        a.row(i)[j] = a.row(i)[0] * (1 + near * random.normal());
    }
  return a;
}

Fault fault_of(int64_t m, const spec::FillRequest& request) {
  if (request.distribution != Distribution::special) return Fault::none;
  return static_cast<Fault>((static_cast<uint64_t>(m) + 2 * request.seed + 1) % 4);
}

void spoil(Matrix& a, Fault fault, base::Random& random) {
  if (fault == Fault::none) return;
  const auto i = static_cast<int64_t>(random.below(static_cast<uint64_t>(a.rows)));
  const auto j = static_cast<int64_t>(random.below(static_cast<uint64_t>(a.columns)));
  if (fault == Fault::nan) a.row(i)[j] = std::numeric_limits<double>::quiet_NaN();
  if (fault == Fault::infinity) a.row(i)[j] = std::numeric_limits<double>::infinity();
  for (int64_t r = 0; r < a.rows && fault == Fault::zero_column; ++r) a.row(r)[j] = 0;
}

double scale_of(int64_t m, const spec::FillRequest& request) {
  if (request.distribution != Distribution::magnitudes) return 1;
  return std::exp2(
      static_cast<double>((m * 37 + static_cast<int64_t>(request.seed) * 11) % 80 - 40));
}

void fill_matrices(const spec::FillRequest& request, int64_t rows, int64_t columns, bool regular) {
  base::Random random(request.seed * 31 + static_cast<uint64_t>(request.distribution));
  for (int64_t m = 0; m < request.dims.at("batch"); ++m) {
    Matrix a = make(kind_of(m, request, regular), rows, columns, request.t, random);
    for (double& x : a.values) x *= scale_of(m, request);
    spoil(a, fault_of(m, request), random);
    write(a, request.inputs[0], m, request.t);
  }
}

}  // namespace mlx_kd::kernels::linalg
