// tri_inv: the inverse of each triangular matrix of a batch.
//
// Grid: a group for each matrix in x. A matrix that does not fit into shared memory (large.cu.h): _load, a block of rows
// in y; _sides, blocks of right sides in y.
#include "../triangles.cu.h"

KD_INLINE auto turns_of(const kd_arguments&, const Triangle& t) {
  return turns_of(t.n, nullptr, !t.upper, t.upper, [t](int i, int j) { return element_of(t, i, j); });
}

KD_TRIANGLE_KERNELS(mlx_kd_tri_inv, triangle_of(a))
