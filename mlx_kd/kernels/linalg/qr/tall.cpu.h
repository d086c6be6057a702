// A tall matrix, in blocks of as many rows as the stage says: each is factored, its R goes to the
// stack, of which top makes R and Q; back has each block reflect its rows of that.
#pragma once

struct Tall {
  long m, n, height, blocks;
  long rows_of(long block) const { return least(height, m - block * height); }
};
static Tall tall_of(const kd_arguments* a) {
  Tall t;
  t.m = a->dims[KD_DIM_m], t.n = a->dims[KD_DIM_n];
  t.height = a->stage >> 32;
  t.blocks = (t.m + t.height - 1) / t.height;
  return t;
}
// The low half of the stage: how many units a task has.
static Work block_work(const kd_arguments* a, const Tall& t, long begin, long unit) {
  const long slot = begin / (a->stage & 0xffffffff);
  return work_of((Float*)a->scratch[0] + slot * w_floats(t.height, t.n, t.n),
                 (Float*)a->scratch[1] + unit * v_floats(t.height, t.n), t.rows_of(unit % t.blocks),
                 t.n, t.n);
}
// (blocks * n, n) of each matrix.
static Float* stack_of(const kd_arguments* a, const Tall& t, long each) {
  return (Float*)a->scratch[2] + each * t.blocks * t.n * t.n;
}

// Units are blocks of each.
extern "C" void mlx_kd_qr_rows(const kd_arguments* a, long begin, long end) {
  const Tall t = tall_of(a);
  for (long unit = begin; unit < end; ++unit) {
    const long block = unit % t.blocks, each = unit / t.blocks, rows = t.rows_of(block);
    const Work w = block_work(a, t, begin, unit);
    const Float* const from = arrays_of(a, each).a + block * t.height * t.n;
    Float* const r = stack_of(a, t, each) + block * t.n * t.n;
    Float inverse;
    const Float scale = scale_of(from, rows * t.n, &inverse);
    if (scale == 0) {
      fill(r, t.n * t.n, 0);
      r[first_spoilt(from, rows, t.n) - 1] = __builtin_nanf("");
      continue;
    }
    load_rows(w, from, scale, 0, w.rows);
    reflect_all(w);
    store_r(w, r, inverse, 0, t.n);
  }
}

// Units are matrices.
extern "C" void mlx_kd_qr_top(const kd_arguments* a, long begin, long end) {
  const Tall t = tall_of(a);
  const long rows = t.blocks * t.n, floats = w_floats(rows, t.n, t.n);
  for (long each = begin; each < end; ++each) {
    const Arrays arrays = arrays_of(a, each);
    Float* const stack = stack_of(a, t, each);
    Float* const from = (Float*)a->scratch[3] + each * (floats + v_floats(rows, t.n));
    const Work w = work_of(from, from + floats, rows, t.n, t.n);
    Float inverse;
    const Float scale = scale_of(stack, rows * t.n, &inverse);
    *arrays.info = scale == 0 ? (int)first_spoilt(stack, rows, t.n) : 0;
    if (scale == 0) {
      fill(arrays.r, t.n * t.n, __builtin_nanf(""));
      continue;
    }
    load_rows(w, stack, scale, 0, w.rows);
    reflect_all(w);
    store_r(w, arrays.r, inverse, 0, t.n);
    form_q_columns(w, 0, padded(t.n));
    store_q(w, stack, t.n, 0, 0, rows);
  }
}

// Units are blocks of each.
extern "C" void mlx_kd_qr_back(const kd_arguments* a, long begin, long end) {
  const Tall t = tall_of(a);
  for (long unit = begin; unit < end; ++unit) {
    const long block = unit % t.blocks, each = unit / t.blocks, rows = t.rows_of(block);
    Float* const q = arrays_of(a, each).q + block * t.height * t.n;
    if (*arrays_of(a, each).info) {
      fill(q, rows * t.n, __builtin_nanf(""));
      continue;
    }
    const Work w = block_work(a, t, begin, unit);
    Work top = w;
    top.m = least(t.n, w.rows);
    load_rows(top, stack_of(a, t, each) + block * t.n * t.n, 1, 0, w.rows);
    for (long j = 0; j < padded(t.n); j += kFloats)
      for (long p = w.panels - 1; p >= 0; --p) apply<1, true>(w, p, w.w + j);
    store_q(w, q, t.n, 0, 0, rows);
  }
}
