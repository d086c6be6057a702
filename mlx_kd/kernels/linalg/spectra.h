// What svd and eigh are proved with and held against: matrices, their singular values in float64,
// residuals. LAPACK's 1-norms, in float64.
#pragma once

#include <vector>

#include "mlx_kd/kernels/linalg/matrices.h"

namespace mlx_kd::kernels::spectra {

using linalg::Matrix;

// Matrix `index` of a proof's input: random, graded (from 1 to 1e-6), Hilbert's, of low rank, by
// turns; with magnitudes, scaled up or down; where the distribution is special, some have a NaN or
// an infinity. `symmetric`: and so is the matrix.
Matrix proof_matrix(int64_t m, int64_t n, bool symmetric, int64_t index,
                    const spec::FillRequest& request, base::Random& random);

// Of the type t, from element `at`.
Matrix read_matrix(const void* data, int64_t at, spec::Dtype t, int64_t m, int64_t n);
void write_matrix(void* data, int64_t at, spec::Dtype t, const Matrix& a);

// By one-sided Jacobi, in descending order.
std::vector<double> singular_values(const Matrix& a);

// |I - q^T q|_1
double distance_from_orthogonal(const Matrix& q);
// What a residual may be of: `size` roundings of float32 or float64, and one of a type that is
// stored and shorter.
double rounding(int64_t size, spec::Dtype t);

}  // namespace mlx_kd::kernels::spectra
