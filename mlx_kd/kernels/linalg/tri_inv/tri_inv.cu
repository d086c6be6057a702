// tri_inv: the inverse of each triangular matrix of a batch.
//
// Grid: a group for each matrix in x. A matrix that does not fit into shared memory (large.cu.h): _load, a block of rows
// in y; _sides, blocks of right sides in y.
#include "../triangles.cu.h"

KD_INLINE auto turns_of(const kd_arguments&, const Triangle& t) {
  return turns_of(t.n, nullptr, !t.upper, t.upper, [t](int i, int j) { return element_of(t, i, j); });
}

KD_KERNEL(mlx_kd_tri_inv) {
  const Triangle t = triangle_of(a);
  solve_triangles(a, t, turns_of(a, t));
}
KD_KERNEL(mlx_kd_tri_inv_load) {
  const Triangle t = triangle_of(a);
  load_triangle(a, t, turns_of(a, t));
}
KD_KERNEL(mlx_kd_tri_inv_sides) {
  const Triangle t = triangle_of(a);
  solve_columns(a, t, turns_of(a, t));
}
