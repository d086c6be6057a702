// solve: A X = B for each matrix of a batch, by P A = L U with partial pivoting.
//
// inputs a (batch, n, n), b (batch, n, k); outputs x (batch, n, k), info (batch). lu.cpu.h says how
// A is factored. mlx_kd_solve takes whole systems, a unit each; mlx_kd_lu_load, _panel, _columns
// and mlx_kd_solve_sides are stages that share one among threads.
#include "../../common/kd_arguments.h"

#ifndef KD_DIM_n
#define KD_DIM_batch 0
#define KD_DIM_n 1
#define KD_DIM_k 2
#endif
#define KD_INFO 1

#include "../lu.cpu.h"

// Columns [begin, end) of X, with room for right sides in the slot's part of the scratch memory.
static void solve_columns(const kd_arguments* a, const Work& w, long slot, long each, long begin,
                          long end) {
  const long k = a->dims[KD_DIM_k], line = line_of(k);
  Float* const to = (Float*)a->outputs[0] + each * w.n * k;
  if (*info_of(a, each)) {
    store_nan(to, w.n, k, begin, end);
    return;
  }
  Float* const x = (Float*)a->scratch[1] + slot * w.rows * line;
  const Triangle t = {w.w, w.inverse, w.rows, w.stride};
  load_sides(x, line, w.rows, (const Float*)a->inputs[1] + each * w.n * k, w.n, k, w.order, begin,
             end);
  forward<true, false>(t, x, line, begin, end);
  backward<false>(t, x, line, begin, end);
  store_sides(x, line, to, w.n, k, nullptr, begin, end);
}

// ---- whole systems; the stage is how many a task has, which has a work of its own
extern "C" void mlx_kd_solve(const kd_arguments* a, long begin, long end) {
  const long slot = begin / a->stage;
  const Work w = work_of(a, slot);
  for (long each = begin; each < end; ++each) {
    load_rows(w, matrix_of(a, each), 0, w.rows);
    *info_of(a, each) = (int)factor(w);
    solve_columns(a, w, slot, each, 0, line_of(a->dims[KD_DIM_k]));
  }
}

// Units are kWide columns of each X.
extern "C" void mlx_kd_solve_sides(const kd_arguments* a, long begin, long end) {
  const long line = line_of(a->dims[KD_DIM_k]), parts = (line + kWide - 1) / kWide;
  for (long unit = begin; unit < end; ++unit) {
    const long each = unit / parts, first = unit % parts * kWide;
    solve_columns(a, work_of(a, each), each, each, first, least(first + kWide, line));
  }
}
