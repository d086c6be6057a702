// What solutions and inverses are held against, and the triangular matrices that they are proved
// with.
#pragma once

#include <functional>
#include <vector>

#include "mlx_kd/kernels/linalg/matrices.h"

namespace mlx_kd::kernels::linalg {

// P A = L U in float64, with partial pivoting.
struct Factors {
  Matrix lu;
  std::vector<int64_t> order;  // row i of P A is row order[i] of A
  bool is_odd = false;
  int64_t zero = 0;      // the first column, from 1, whose pivot is exactly 0; 0: none
  int64_t doubtful = 0;  // the first whose pivot is within the roundings; 0: none
};
Factors factored(const Matrix& a, double eps);           // eps: the roundoff that makes doubts
Matrix solved(const Factors& factors, const Matrix& b);  // none of the pivots is 0

// What `info` of a general matrix may be: `must` where a pivot is surely 0 first; any value not
// below `from` (or 0) where roundings decide; not 0 where an element is not finite.
struct Expected {
  bool is_spoilt = false;
  int64_t must = 0, from = 0;
  bool allows(int64_t info) const;
};
Expected expected_info(const Matrix& a, double eps);

// X of A X = B, with 1-norms and the unit roundoff of T: |A X - B| / (|A| |X| eps), and of inverses
// |I - A X| / (n |A| |X| eps). `factors` gives the matrices whose product is A.
using FactorsOf = std::function<std::vector<Matrix>(const spec::JudgedCase& judged, int64_t m)>;
std::vector<spec::Residual> general_residuals(const spec::JudgedCase& judged, bool is_inverse);
std::vector<spec::Residual> triangular_residuals(const spec::JudgedCase& judged, bool is_inverse,
                                                 const FactorsOf& factors);

// Of dims n, and upper, transposed, unit as far as there are.
Matrix read_triangle(const spec::JudgedCase& judged, int64_t m);

// L and L^T, or U^T and U with upper, of the matrix whose factor is read.
std::vector<Matrix> factor_and_transpose(const spec::JudgedCase& judged, int64_t m);

// Input 0: triangles (batch, n, n) whose condition is moderate, random and graded, some with 0 on
// the diagonal or a NaN where the distribution is special. With magnitudes, what is not read is
// NaN.
void fill_triangles(const spec::FillRequest& request);
// Input 1: (batch, n, k).
void fill_sides(const spec::FillRequest& request);

}  // namespace mlx_kd::kernels::linalg
