// cholesky_inv: the inverse of L L^T for each L of a batch, or of U^T U.
//
// input a (batch, n, n), of which one triangle is read; outputs inverse (batch, n, n), info
// (batch). triangle.cpu.h says how the matrices go to threads.
#ifndef VEC
#define VEC 16  // bytes of a vector
#endif
#ifndef PANEL
#define PANEL 16  // rows that are solved together
#endif
#ifndef ROWS
#define ROWS 8  // rows of a tile of products
#endif
#ifndef TILE
#define TILE 2  // its vectors
#endif

#include "../../common/kd_arguments.h"

#ifndef KD_DIM_n
#define KD_DIM_batch 0
#define KD_DIM_n 1
#define KD_DIM_upper 2
#endif
#define KD_INFO 1
#define KD_TRIANGLES 2

#include "../triangle.cpu.h"

// L, then its transpose.
static Stored stored_of(const kd_arguments* a, long each, long which) {
  const long n = a->dims[KD_DIM_n];
  const bool upper = a->dims[KD_DIM_upper] != 0;
  return {(const float*)a->inputs[0] + each * n * n, n, upper, upper == (which == 0), false};
}
static bool is_unit(const kd_arguments*) {
  return false;
}
static long sides_of(const kd_arguments* a) {
  return a->dims[KD_DIM_n];
}

static void make_columns(const kd_arguments* a, long slot, long, float* x, long line, long begin,
                         long end) {
  const Triangle lower = triangle_of(a, slot, 0, 2), upper = triangle_of(a, slot, 1, 2);
  load_identity(x, line, lower.n, begin, end);
  forward<false, true>(lower, x, line, begin, end);
  backward<false>(upper, x, line, begin, end);
}

extern "C" void mlx_kd_cholesky_inv(const kd_arguments* a, long begin, long end) {
  make_results(a, begin, end);
}
