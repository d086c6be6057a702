// cholesky_solve: L L^T X = B for each L of a batch, or U^T U X = B.
//
// inputs a (batch, n, n), of which one triangle is read, b (batch, n, k); outputs x (batch, n, k),
// info (batch). triangle.cpu.h says how the matrices go to threads.
#include "../../common/kd_arguments.h"

#ifndef KD_DIM_n
#define KD_DIM_batch 0
#define KD_DIM_n 1
#define KD_DIM_k 2
#define KD_DIM_upper 3
#endif
#define KD_INFO 1

#include "../cholesky_factors.cpu.h"

static long sides_of(const kd_arguments* a) {
  return a->dims[KD_DIM_k];
}

static void make_columns(const kd_arguments* a, long slot, long each, Float* x, long line,
                         long begin, long end) {
  const long n = a->dims[KD_DIM_n], k = a->dims[KD_DIM_k];
  const Triangle lower = triangle_of(a, slot, 0, 2), upper = triangle_of(a, slot, 1, 2);
  load_sides(x, line, lower.n, (const Float*)a->inputs[1] + each * n * k, n, k, nullptr, begin,
             end);
  forward<false, false>(lower, x, line, begin, end);
  backward<false>(upper, x, line, begin, end);
}

extern "C" void mlx_kd_cholesky_solve(const kd_arguments* a, long begin, long end) {
  make_results(a, begin, end);
}
