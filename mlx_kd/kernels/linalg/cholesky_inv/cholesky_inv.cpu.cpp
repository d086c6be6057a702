// cholesky_inv: the inverse of L L^T for each L of a batch, or of U^T U.
//
// input a (batch, n, n), of which one triangle is read; outputs inverse (batch, n, n), info
// (batch). triangle.cpu.h says how the matrices go to threads.
#include "../../common/kd_arguments.h"

#ifndef KD_DIM_n
#define KD_DIM_batch 0
#define KD_DIM_n 1
#define KD_DIM_upper 2
#endif
#define KD_INFO 1

#include "../cholesky_factors.cpu.h"

static long sides_of(const kd_arguments* a) {
  return a->dims[KD_DIM_n];
}

static void make_columns(const kd_arguments* a, long slot, long, Float* x, long line, long begin,
                         long end) {
  const Triangle lower = triangle_of(a, slot, 0, 2), upper = triangle_of(a, slot, 1, 2);
  load_identity(x, line, lower.n, begin, end);
  forward<false, true>(lower, x, line, begin, end);
  backward<false>(upper, x, line, begin, end);
}

extern "C" void mlx_kd_cholesky_inv(const kd_arguments* a, long begin, long end) {
  make_results(a, begin, end);
}
