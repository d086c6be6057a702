// cholesky_inv: A^-1 for each matrix of a batch, whose factor is given: A = L L^T or U^T U.
//
// Grid: a group for each matrix in x. A matrix that does not fit into shared memory (large.cu.h): _load, a block of rows
// in y; _sides, blocks of right sides in y.
#include "../triangles.cu.h"

KD_INLINE auto turns_of(const kd_arguments&, const Triangle& t) {
  return turns_of(t.n, nullptr, true, true, [t](int i, int j) { return element_of_factor(t, i, j); });
}

KD_TRIANGLE_KERNELS(mlx_kd_cholesky_inv, triangle_of(a))
