// Matrices in float64 that the judges compute with, and those that operators are proved with.
#pragma once

#include <cstdint>
#include <vector>

#include "mlx_kd/base/random.h"
#include "mlx_kd/spec/op/op.h"

namespace mlx_kd::kernels::linalg {

// By rows.
struct Matrix {
  int64_t rows, columns;
  std::vector<double> values;

  Matrix(int64_t m, int64_t n) : rows(m), columns(n), values(static_cast<size_t>(m * n)) {}
  double* row(int64_t i) { return values.data() + i * columns; }
  const double* row(int64_t i) const { return values.data() + i * columns; }
  double& at(int64_t i, int64_t j) { return row(i)[j]; }
  double at(int64_t i, int64_t j) const { return row(i)[j]; }
};

// From memory of type t; `m` counts matrices.
Matrix read(const void* data, int64_t m, int64_t rows, int64_t columns, spec::Dtype t);
void write(const Matrix& matrix, void* data, int64_t m, spec::Dtype t);  // rounded to it

Matrix identity(int64_t n);
Matrix transposed(const Matrix& a);
Matrix operator*(const Matrix& a, const Matrix& b);
Matrix operator-(const Matrix& a, const Matrix& b);
double norm1(const Matrix& a);  // NaN where an element is
bool is_finite(const Matrix& a);
bool is_all_nan(const Matrix& a);
Matrix hilbert(int64_t rows, int64_t columns);
// The lower or upper triangle; what is not part of it is 0. With `unit`, its diagonal is 1.
Matrix triangle_of(const Matrix& a, bool upper, bool unit = false);
double outside_triangle(const Matrix& a, bool upper);  // count of elements that are not 0

// The larger of two ratios, where NaN is larger than all else.
void take(double& worst, double ratio);

// Which of a batch are judged: all, or about 64 of a large one, spread over it; others in each case
// of a proof.
std::vector<int64_t> judged_matrices(const spec::JudgedCase& judged);

// ---- inputs

enum class Kind { random, graded, hilbert, deficient, nearly_singular };

// Of one matrix of a proof; MLX, which is compared with where numbers are normal, fails where a
// matrix is singular, and those of `regular` are not then.
Kind kind_of(int64_t m, const spec::FillRequest& request, bool regular);
// A matrix that is nearly singular in type t is so within some 200 of its roundoffs.
Matrix make(Kind kind, int64_t rows, int64_t columns, spec::Dtype t, base::Random& random);

// What a special case has in place of some matrices: none, a NaN or an infinity somewhere, a
// column of 0.
enum class Fault { none, nan, infinity, zero_column };
Fault fault_of(int64_t m, const spec::FillRequest& request);
void spoil(Matrix& a, Fault fault, base::Random& random);

// Scaled as a whole by a power of two, where the distribution is one of magnitudes.
double scale_of(int64_t m, const spec::FillRequest& request);

// Fills input 0 with (batch, rows, columns) of all kinds.
void fill_matrices(const spec::FillRequest& request, int64_t rows, int64_t columns, bool regular);

}  // namespace mlx_kd::kernels::linalg
