// cholesky_solve: A X = B for each matrix of a batch, whose factor is given: A = L L^T or U^T U.
//
// Grid: a group for each matrix in x. A matrix that does not fit into shared memory (large.cu.h): _load, a block of rows
// in y; _sides, blocks of right sides in y.
#ifndef KD_DIM_n
#define KD_DIM_n 1
#define KD_DIM_k 2
#define KD_DIM_upper 3
#endif

#include "../triangles.cu.h"

KD_INLINE auto turns_of(const kd_arguments& a, const Triangle& t) {
  const int k = (int)a.dims[KD_DIM_k];
  return turns_of(k, sides_of(a, t.n, k), true, true, [t](int i, int j) { return element_of_factor(t, i, j); });
}

KD_TRIANGLE_KERNELS(mlx_kd_cholesky_solve, triangle_of(a))
