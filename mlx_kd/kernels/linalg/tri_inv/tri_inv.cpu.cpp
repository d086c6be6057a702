// tri_inv: the inverse of each triangular matrix of a batch.
//
// input a (batch, n, n), of which one triangle is read; outputs inverse (batch, n, n), whose other
// triangle is 0, info (batch). triangle.cpu.h says how the matrices go to threads.
#include "../../common/kd_arguments.h"

#ifndef KD_DIM_n
#define KD_DIM_batch 0
#define KD_DIM_n 1
#define KD_DIM_upper 2
#endif
#define KD_INFO 1
#define KD_TRIANGLES 1

#include "../triangle.cpu.h"

static Stored stored_of(const kd_arguments* a, long each, long) {
  const long n = a->dims[KD_DIM_n];
  return {(const Float*)a->inputs[0] + each * n * n, n, a->dims[KD_DIM_upper] != 0, false, false};
}
static bool is_unit(const kd_arguments*) {
  return false;
}
static long sides_of(const kd_arguments* a) {
  return a->dims[KD_DIM_n];
}

static void make_columns(const kd_arguments* a, long slot, long each, Float* x, long line,
                         long begin, long end) {
  const Triangle t = triangle_of(a, slot, 0, 1);
  load_identity(x, line, t.n, begin, end);
  if (stored_of(a, each, 0).lower())
    forward<false, true>(t, x, line, begin, end);
  else
    backward<true>(t, x, line, begin, end);
}

extern "C" void mlx_kd_tri_inv(const kd_arguments* a, long begin, long end) {
  make_results(a, begin, end);
}
