// One matrix, shared by threads. Its scale and the inverse are at the end of v and s.
#pragma once

static Work shared_work(const kd_arguments* a, long each, Float** scale) {
  const long m = a->dims[KD_DIM_m], n = a->dims[KD_DIM_n], wide = q_columns(a);
  Float* const of_panels = (Float*)a->scratch[1] + each * (v_floats(m, n) + kPanel);
  *scale = of_panels + v_floats(m, n);
  return work_of((Float*)a->scratch[0] + each * w_floats(m, n, wide), of_panels, m, n, wide);
}

// Units are matrices.
extern "C" void mlx_kd_qr_measure(const kd_arguments* a, long begin, long end) {
  const long m = a->dims[KD_DIM_m], n = a->dims[KD_DIM_n];
  for (long each = begin; each < end; ++each) {
    const Arrays arrays = arrays_of(a, each);
    Float* scale;
    shared_work(a, each, &scale);
    scale[0] = scale_of(arrays.a, m * n, scale + 1);
    *arrays.info = scale[0] == 0 ? (int)first_spoilt(arrays.a, m, n) : 0;
  }
}

// Units are kPanel rows of each.
extern "C" void mlx_kd_qr_load(const kd_arguments* a, long begin, long end) {
  const long parts = padded(a->dims[KD_DIM_m]) / kPanel;
  for (long unit = begin; unit < end; ++unit) {
    Float* scale;
    const Work w = shared_work(a, unit / parts, &scale);
    const long row = unit % parts * kPanel;
    load_rows(w, arrays_of(a, unit / parts).a, scale[0], row, row + kPanel);
  }
}

// Units are matrices; the stage is the block's first column.
extern "C" void mlx_kd_qr_panel(const kd_arguments* a, long begin, long end) {
  const long from = a->stage / kPanel;
  for (long each = begin; each < end; ++each) {
    Float* scale;
    const Work w = shared_work(a, each, &scale);
    if (scale[0] != 0) reflect_block(w, from, least(from + BLOCK / kPanel, w.panels));
  }
}

// Units are kWide columns right of the block.
extern "C" void mlx_kd_qr_columns(const kd_arguments* a, long begin, long end) {
  const long from = a->stage / kPanel, columns = padded(a->dims[KD_DIM_n]);
  const long next =
      least(from + BLOCK / kPanel, padded(least(a->dims[KD_DIM_m], a->dims[KD_DIM_n])) / kPanel);
  const long parts = (columns - next * kPanel + kWide - 1) / kWide;
  for (long unit = begin; unit < end; ++unit) {
    Float* scale;
    const Work w = shared_work(a, unit / parts, &scale);
    const long first = next * kPanel + unit % parts * kWide;
    if (scale[0] != 0) update(w, from, next, first, least(first + kWide, columns));
  }
}

// Units are kPanel rows of each R.
extern "C" void mlx_kd_qr_r(const kd_arguments* a, long begin, long end) {
  const long n = a->dims[KD_DIM_n], tall = r_rows(a), parts = padded(tall) / kPanel;
  for (long unit = begin; unit < end; ++unit) {
    Float* scale;
    const Work w = shared_work(a, unit / parts, &scale);
    Float* const r = arrays_of(a, unit / parts).r;
    const long row = unit % parts * kPanel, last = least(row + kPanel, tall);
    if (scale[0] == 0)
      fill(r + row * n, (last - row) * n, __builtin_nanf(""));
    else
      store_r(w, r, scale[1], row, last);
  }
}

// Units are kWide columns of each Q.
extern "C" void mlx_kd_qr_q(const kd_arguments* a, long begin, long end) {
  const long m = a->dims[KD_DIM_m], wide = q_columns(a), columns = padded(wide);
  const long parts = (columns + kWide - 1) / kWide;
  for (long unit = begin; unit < end; ++unit) {
    Float* scale;
    const Work w = shared_work(a, unit / parts, &scale);
    Float* const q = arrays_of(a, unit / parts).q;
    const long first = unit % parts * kWide, last = least(first + kWide, columns);
    if (scale[0] != 0) {
      form_q_columns(w, first, last);
      store_q(w, q, wide, first, 0, m, least(last, wide));
      continue;
    }
    for (long i = 0; i < m; ++i)
      for (long j = first; j < last && j < wide; ++j) q[i * wide + j] = __builtin_nanf("");
  }
}
