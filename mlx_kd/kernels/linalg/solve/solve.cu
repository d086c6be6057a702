// solve: A X = B for each matrix of a batch, by P A = L U with partial pivoting, by a group of threads each
// (systems.cu.h).
//
// Grid: a group for each matrix in x. A matrix that does not fit into shared memory (large.cu.h): _load, a block of rows
// in y; for each panel _panel, then _columns, blocks of columns in y; _sides, blocks of right sides in y.
#include "../large.cu.h"

#ifndef KD_DIM_n
#define KD_DIM_n 1
#define KD_DIM_k 2
#endif

struct Problem {
  int n, k;
  const float* b;  // null: I
};
KD_INLINE Problem problem_of(const kd_arguments& a) {
  const int n = (int)a.dims[KD_DIM_n];
  const int k = (int)a.dims[KD_DIM_k];
  return {n, k, (const float*)a.inputs[1] + (long)blockIdx.x * n * k};
}

KD_KERNEL(mlx_kd_solve) {
  const Problem z = problem_of(a);
  solve_sides(a, z.n, z.k, z.b);
}
KD_KERNEL(mlx_kd_solve_load) {
  const Problem z = problem_of(a);
  load_general(a, z.n, z.k, z.b);
}
KD_KERNEL(mlx_kd_solve_panel) {
  const Problem z = problem_of(a);
  factor_columns<false>(a, large_of(a, z.n, z.n, z.k), z.n, z.n);
}
KD_KERNEL(mlx_kd_solve_columns) {
  const Problem z = problem_of(a);
  reduce_columns(a, large_of(a, z.n, z.n, z.k), z.n, z.n);
}
KD_KERNEL(mlx_kd_solve_sides) {
  const Problem z = problem_of(a);
  const Large l = large_of(a, z.n, z.n, z.k);
  const int failed = *l.info;
  if (!failed) substitute_columns<false>(l, z.n, false);
  store_columns(a, l, z.n, z.k, failed);
}
