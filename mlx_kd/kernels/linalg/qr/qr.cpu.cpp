// qr: A = Q R of each matrix of a batch, by Householder's reflections.
//
// input a (batch, m, n); outputs q (batch, m, columns of Q), r (batch, rows of R, n), info (batch).
//
// PANEL columns at a time are copied, one row after the other, and reflected (factor_panel): the
// panel then holds the vectors V below a unit diagonal. S = T^T of the compact form
// I - V T V^T follows from V^T V (form_s), and the columns right of the panel become
// A - V S (V^T A) (apply). Q is made from the last panel to the first, a tile of columns after
// the other. Each matrix is scaled by a power of two so that no square overflows; what is below
// 1e-13 of its largest element is 0 in a reflection, so that no square that matters underflows.
//
// Four ways, chosen by the launch: mlx_kd_qr takes whole matrices; mlx_kd_qr_lanes takes as many
// small ones as a vector has lanes, one in each; load, panel, columns and finish share one matrix
// among threads; rows, top and back share a tall one: each block of rows is factored, then what is
// left of all blocks together, and Q of that is carried back into the blocks.
#ifndef BLOCK
#define BLOCK 64  // columns between two updates of all that is right of them
#endif

#include "../../common/kd_arguments.h"

#ifndef KD_DIM_n
#define KD_DIM_batch 0
#define KD_DIM_m 1
#define KD_DIM_n 2
#define KD_DIM_mode 3
#endif

#include "../blocks.cpu.h"
#include "panels.cpu.h"

// ---- whole matrices; the stage is how many a task has, which has a work of its own
extern "C" void mlx_kd_qr(const kd_arguments* a, long begin, long end) {
  const long m = a->dims[KD_DIM_m], n = a->dims[KD_DIM_n], wide = q_columns(a);
  const long slot = begin / a->stage;
  const Work w = work_of((Float*)a->scratch[0] + slot * w_floats(m, n, wide),
                         (Float*)a->scratch[1] + slot * v_floats(m, n), m, n, wide);
  for (long each = begin; each < end; ++each) {
    const Arrays arrays = arrays_of(a, each);
    Float inverse;
    const Float scale = scale_of(arrays.a, m * n, &inverse);
    *arrays.info = scale == 0 ? (int)first_spoilt(arrays.a, m, n) : 0;
    if (scale == 0) {
      store_nan(a, each);
      continue;
    }
    load_rows(w, arrays.a, scale, 0, w.rows);
    reflect_all(w);
    store_r(w, arrays.r, inverse, 0, r_rows(a));
    if (a->dims[KD_DIM_mode] == kOnlyR) continue;
    form_q_columns(w, 0, padded(wide));
    store_q(w, arrays.q, wide, 0, 0, m);
  }
}

#include "lanes.cpu.h"
#include "shared.cpu.h"
#include "tall.cpu.h"
