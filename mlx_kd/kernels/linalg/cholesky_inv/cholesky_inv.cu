// cholesky_inv: A^-1 for each matrix of a batch, whose factor is given: A = L L^T or U^T U.
//
// Grid: a group for each matrix in x. A matrix that does not fit into shared memory (large.cu.h): _load, a block of rows
// in y; _sides, blocks of right sides in y.
#include "../triangles.cu.h"

KD_INLINE auto turns_of(const kd_arguments&, const Triangle& t) {
  return turns_of(t.n, nullptr, true, true, [t](int i, int j) { return element_of_factor(t, i, j); });
}

KD_KERNEL(mlx_kd_cholesky_inv) {
  const Triangle t = triangle_of(a);
  solve_triangles(a, t, turns_of(a, t));
}
KD_KERNEL(mlx_kd_cholesky_inv_load) {
  const Triangle t = triangle_of(a);
  load_triangle(a, t, turns_of(a, t));
}
KD_KERNEL(mlx_kd_cholesky_inv_sides) {
  const Triangle t = triangle_of(a);
  solve_columns(a, t, turns_of(a, t));
}
