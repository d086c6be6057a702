// lu: P A = L U of each matrix of a batch, with partial pivoting.
//
// input a (batch, m, n); outputs lu (batch, m, n), pivots (batch, min(m, n)), permutation (batch,
// m), info (batch). lu.cpu.h says how. mlx_kd_lu factors whole matrices, a unit each;
// mlx_kd_lu_load, _panel, _columns and _store are stages that share one among threads.
#include "../../common/kd_arguments.h"

#ifndef KD_DIM_n
#define KD_DIM_batch 0
#define KD_DIM_m 1
#define KD_DIM_n 2
#endif
#define KD_INFO 3
#define KD_ZERO_PIVOTS

#include "../lu.cpu.h"

// Rows [begin, end) of the results.
static void store_rows(const kd_arguments* a, const Work& w, long each, long begin, long end) {
  const bool failed = *info_of(a, each);
  Float* const lu = (Float*)a->outputs[0] + each * w.m * w.n;
  const long steps = least(w.m, w.n);
  for (long i = begin; i < end; ++i) {
    if (failed)
      fill(lu + i * w.n, w.n, __builtin_nanf(""));
    else
      store_sides(w.w + i * w.stride, w.stride, lu + i * w.n, 1, w.n, nullptr, 0, w.n);
    ((unsigned*)a->outputs[2])[each * w.m + i] = (unsigned)(failed ? i : w.order[i]);
    if (i < steps)
      ((unsigned*)a->outputs[1])[each * steps + i] = (unsigned)(failed ? i : w.pivots[i]);
  }
}

// ---- whole matrices; the stage is how many a task has, which has a work of its own
extern "C" void mlx_kd_lu(const kd_arguments* a, long begin, long end) {
  const Work w = work_of(a, begin / a->stage);
  for (long each = begin; each < end; ++each) {
    load_rows(w, matrix_of(a, each), 0, w.rows);
    *info_of(a, each) = (int)factor(w);
    store_rows(a, w, each, 0, w.m);
  }
}

// Units are kPanel rows of each.
extern "C" void mlx_kd_lu_store(const kd_arguments* a, long begin, long end) {
  const long parts = padded(a->dims[KD_DIM_m]) / kPanel;
  for (long unit = begin; unit < end; ++unit) {
    const Work w = work_of(a, unit / parts);
    const long row = unit % parts * kPanel;
    store_rows(a, w, unit / parts, row, least(row + kPanel, w.m));
  }
}
