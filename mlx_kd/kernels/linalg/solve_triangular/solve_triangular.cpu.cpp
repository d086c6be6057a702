// solve_triangular: T X = B for each triangular T of a batch, or T^T X = B.
//
// inputs a (batch, n, n), of which one triangle is read, b (batch, n, k); outputs x (batch, n, k),
// info (batch). triangle.cpu.h says how the matrices go to threads.
#include "../../common/kd_arguments.h"

#ifndef KD_DIM_n
#define KD_DIM_batch 0
#define KD_DIM_n 1
#define KD_DIM_k 2
#define KD_DIM_upper 3
#define KD_DIM_transposed 4
#define KD_DIM_unit 5
#endif
#define KD_INFO 1
#define KD_TRIANGLES 1

#include "../triangle.cpu.h"

static Stored stored_of(const kd_arguments* a, long each, long) {
  const long n = a->dims[KD_DIM_n];
  return {(const Float*)a->inputs[0] + each * n * n, n, a->dims[KD_DIM_upper] != 0,
          a->dims[KD_DIM_transposed] != 0, a->dims[KD_DIM_unit] != 0};
}
static bool is_unit(const kd_arguments* a) {
  return a->dims[KD_DIM_unit] != 0;
}
static long sides_of(const kd_arguments* a) {
  return a->dims[KD_DIM_k];
}

static void make_columns(const kd_arguments* a, long slot, long each, Float* x, long line,
                         long begin, long end) {
  const long n = a->dims[KD_DIM_n], k = a->dims[KD_DIM_k];
  const Triangle t = triangle_of(a, slot, 0, 1);
  load_sides(x, line, t.n, (const Float*)a->inputs[1] + each * n * k, n, k, nullptr, begin, end);
  if (stored_of(a, each, 0).lower())
    forward<false, false>(t, x, line, begin, end);
  else
    backward<false>(t, x, line, begin, end);
}

extern "C" void mlx_kd_solve_triangular(const kd_arguments* a, long begin, long end) {
  make_results(a, begin, end);
}
