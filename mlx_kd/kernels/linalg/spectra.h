// What svd and eigh are proved with and held against: matrices, their singular values in float64,
// residuals. LAPACK's 1-norms, in float64.
#pragma once

#include <vector>

#include "mlx_kd/base/random.h"
#include "mlx_kd/spec/op.h"

namespace mlx_kd::kernels::spectra {

// By rows.
struct Matrix {
  int64_t rows, columns;
  std::vector<double> values;

  Matrix(int64_t m, int64_t n)
      : rows(m), columns(n), values(static_cast<size_t>(m) * static_cast<size_t>(n)) {}
  double* row(int64_t i) { return values.data() + i * columns; }
  const double* row(int64_t i) const { return values.data() + i * columns; }
  double& at(int64_t i, int64_t j) { return row(i)[j]; }
  double at(int64_t i, int64_t j) const { return row(i)[j]; }
};

// Matrix `index` of a proof's input: random, graded (from 1 to 1e-6), Hilbert's, of low rank, by
// turns; with magnitudes, scaled up or down; where the distribution is special, some have a NaN or
// an infinity. `symmetric`: and so is the matrix.
Matrix proof_matrix(int64_t m, int64_t n, bool symmetric, int64_t index,
                    const spec::FillRequest& request, base::Random& random);

// Of a batch, all, or about 64 that lie evenly.
std::vector<int64_t> judged_matrices(const spec::JudgedCase& judged);

Matrix read_matrix(const void* data, int64_t at, spec::Dtype t, int64_t m, int64_t n);
void write_matrix(void* data, int64_t at, spec::Dtype t, const Matrix& a);

bool is_finite(const Matrix& a);
bool is_all_nan(const Matrix& a);
double norm_1(const Matrix& a);

// By one-sided Jacobi, in descending order.
std::vector<double> singular_values(const Matrix& a);

// x y; x^T y where `transposed`.
Matrix product(const Matrix& x, const Matrix& y, bool transposed = false);
// |I - q^T q|_1
double distance_from_orthogonal(const Matrix& q);
// |a - b|_1
double distance(const Matrix& a, const Matrix& b);

// What a residual may be of: `size` roundings of float32, and one of the type that is stored.
double rounding(int64_t size, spec::Dtype t);

// The larger, or NaN.
void raise_to(double& worst, double ratio);

}  // namespace mlx_kd::kernels::spectra
