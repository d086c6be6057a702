// solve_triangular: T X = B, or T^T X = B, for each triangular matrix T of a batch.
//
// Grid: a group for each matrix in x. A matrix that does not fit into shared memory (large.cu.h): _load, a block of rows
// in y; _sides, blocks of right sides in y.
#ifndef KD_DIM_n
#define KD_DIM_n 1
#define KD_DIM_k 2
#define KD_DIM_upper 3
#define KD_DIM_transposed 4
#define KD_DIM_unit 5
#endif

#include "../triangles.cu.h"

KD_INLINE auto turns_of(const kd_arguments& a, const Triangle& t) {
  const int k = (int)a.dims[KD_DIM_k];
  const bool transposed = a.dims[KD_DIM_transposed] != 0, forward = t.upper == transposed;
  return turns_of(k, sides_of(a, t.n, k), forward, !forward,
                  [=](int i, int j) { return transposed ? element_of(t, j, i) : element_of(t, i, j); });
}

KD_TRIANGLE_KERNELS(mlx_kd_solve_triangular, triangle_of(a, a.dims[KD_DIM_unit] != 0))
