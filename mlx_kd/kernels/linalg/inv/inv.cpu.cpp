// inv: the inverse of each matrix of a batch, by P A = L U with partial pivoting: U^-1 L^-1 P.
//
// input a (batch, n, n); outputs inverse (batch, n, n), info (batch). lu.cpu.h says how A is
// factored. mlx_kd_inv takes whole matrices, a unit each; mlx_kd_lu_load, _panel, _columns and
// mlx_kd_inv_sides are stages that share one among threads.
#include "../../common/kd_arguments.h"

#ifndef KD_DIM_n
#define KD_DIM_batch 0
#define KD_DIM_n 1
#endif
#define KD_INFO 1

#include "../lu.cpu.h"

// Columns [begin, end) of U^-1 L^-1, stored where P has them.
static void invert_columns(const kd_arguments* a, const Work& w, long slot, long each, long begin,
                           long end) {
  const long line = line_of(w.n);
  Float* const to = (Float*)a->outputs[0] + each * w.n * w.n;
  if (*info_of(a, each)) {
    store_nan(to, w.n, w.n, begin, end);
    return;
  }
  Float* const x = (Float*)a->scratch[1] + slot * w.rows * line;
  const Triangle t = {w.w, w.inverse, w.rows, w.stride};
  load_identity(x, line, w.rows, begin, end);
  forward<true, true>(t, x, line, begin, end);
  backward<false>(t, x, line, begin, end);
  store_sides(x, line, to, w.n, w.n, w.order, begin, end);
}

// ---- whole matrices; the stage is how many a task has, which has a work of its own
extern "C" void mlx_kd_inv(const kd_arguments* a, long begin, long end) {
  const long slot = begin / a->stage;
  const Work w = work_of(a, slot);
  for (long each = begin; each < end; ++each) {
    load_rows(w, matrix_of(a, each), 0, w.rows);
    *info_of(a, each) = (int)factor(w);
    invert_columns(a, w, slot, each, 0, line_of(w.n));
  }
}

// Units are kWide columns of each inverse.
extern "C" void mlx_kd_inv_sides(const kd_arguments* a, long begin, long end) {
  const long line = line_of(a->dims[KD_DIM_n]), parts = (line + kWide - 1) / kWide;
  for (long unit = begin; unit < end; ++unit) {
    const long each = unit / parts, first = unit % parts * kWide;
    invert_columns(a, work_of(a, each), each, each, first, least(first + kWide, line));
  }
}
