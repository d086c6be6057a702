// P A = L U of one matrix in work, with partial pivoting, by rows. A panel of PANEL columns is
// factored a column at a time; while a row is reduced by one column, the largest element below the
// next one is found in the same pass. BLOCK columns are factored before all that is right of them
// is updated. The includer defines KD_INFO, the output that says where a matrix failed, and has
// included kd_arguments.h.
#pragma once
#ifndef BLOCK
#define BLOCK 64  // columns between two updates of all that is right of them
#endif

#include "substitute.cpu.h"

#ifndef KD_DIM_m
#define KD_DIM_m KD_DIM_n
#endif

// Rows are `stride` floats apart; the padding is the identity. Row i of P A is row order[i] of A.
struct Work {
  long m, n, rows, columns, stride;
  Float *w, *inverse;  // of U's diagonal
  int *pivots, *order;
};

// The floats of a work are counted by the host too.
KD_PART long work_floats(const kd_arguments* a) {
  const long rows = padded(a->dims[KD_DIM_m]), columns = padded(a->dims[KD_DIM_n]);
  return rows * stride_of(columns) + 3 * rows;
}
KD_PART Work work_of(const kd_arguments* a, long slot) {
  Work w;
  w.m = a->dims[KD_DIM_m], w.n = a->dims[KD_DIM_n];
  w.rows = padded(w.m), w.columns = padded(w.n), w.stride = stride_of(w.columns);
  w.w = (Float*)a->scratch[0] + slot * work_floats(a);
  w.inverse = w.w + w.rows * w.stride;
  w.pivots = (int*)(w.inverse + w.rows);
  w.order = w.pivots + w.rows;
  return w;
}

// Rows [begin, end) of the padded matrix.
KD_PART void load_rows(const Work& w, const Float* a, long begin, long end) {
  for (long i = begin; i < end; ++i) {
    Float* const to = w.w + i * w.stride;
    long j = 0;
    w.order[i] = (int)i, w.inverse[i] = 1;
    if (i < w.m) {
      for (; j + kFloats <= w.n; j += kFloats) store(to + j, load(a + i * w.n + j));
      for (; j < w.n; ++j) to[j] = a[i * w.n + j];
    }
    for (; j < w.columns; ++j) to[j] = i == j && i >= w.m;
  }
}

KD_PART void swap_rows(const Work& w, long i, long k) {
  Float *const x = w.w + i * w.stride, *const y = w.w + k * w.stride;
  for (long j = 0; j < w.columns; j += kFloats) {
    const Floats kept = load(x + j);
    store(x + j, load(y + j));
    store(y + j, kept);
  }
  const int order = w.order[i];
  w.order[i] = w.order[k], w.order[k] = order;
}

// The largest elements of columns, and the first rows that have them.
struct Largest {
  Floats size[kParts];
  Ints row[kParts];
};
KD_INLINE void note(Largest& most, int part, Floats x, int row) {
  const Floats size = absolute(x);
  const Ints more = (Ints)(size > most.size[part]);
  most.size[part] = chosen(more, size, most.size[part]);
  most.row[part] = (row & more) | (most.row[part] & ~more);
}

// Whether a column from row k on is 0, which `lu` goes on from: its L is 0 there.
KD_PART bool is_zero_below([[maybe_unused]] const Work& w, [[maybe_unused]] long k,
                           [[maybe_unused]] const Float* column) {
#ifdef KD_ZERO_PIVOTS
  Float most = 0;
  for (long i = k; i < w.m; ++i) most += magnitude(column[i * w.stride]);
  return most == 0;
#else
  return false;
#endif
}

// Panel [p, p + kPanel) of the columns. The first column, from 1, without a pivot that is finite
// and not 0 (or may be 0); or 0.
KD_PART long factor_panel(const Work& w, long p) {
  const int steps = (int)least(kPanel, least(w.m, w.n) - p);
  Float* const panel = w.w + p;
  Largest most = {};
  for (long i = p; i < w.m; ++i)
    for (int part = 0; part < kParts; ++part)
      note(most, part, load(panel + i * w.stride + part * kFloats), (int)i);
  for (int c = 0; c < steps; ++c) {
    const long k = p + c;
    const Float size = most.size[c / kFloats][c % kFloats];
    const bool zero = size == 0 && is_zero_below(w, k, panel + c);
    if (!zero && !(size > 0 && size - size == 0)) return k + 1;
    const int row = zero ? (int)k : most.row[c / kFloats][c % kFloats];
    w.pivots[k] = row;
    if (row != k) swap_rows(w, k, row);
    const Float inverse = zero ? 0 : 1 / panel[k * w.stride + c];
    w.inverse[k] = inverse;
    Floats u[kParts];
    Ints at[kParts];
    for (int part = 0; part < kParts; ++part) {
      at[part] = lanes_at(part, c);
      u[part] = (Floats)((Ints)load(panel + k * w.stride + part * kFloats) & lanes_after(part, c));
    }
    most = {};
    for (long i = k + 1; i < w.m; ++i) {
      Float* const x = panel + i * w.stride;
      const Floats factor = x[c] * inverse + Floats{};
      for (int part = 0; part < kParts; ++part) {
        const Floats reduced = load(x + part * kFloats) - factor * u[part];
        store(x + part * kFloats, chosen(at[part], factor, reduced));
        note(most, part, reduced, (int)i);
      }
    }
  }
  return 0;
}

// What the panels [from, to) make of kVectors vectors of columns right of them.
template <int kVectors>
KD_INLINE void finish_tile(const Work& w, long from, long to, long j) {
  Float* const x = w.w + j;
  for (long b = from; b < to; b += kPanel) {
    product<kVectors, true>(x + b * w.stride, w.stride, w.w + b * w.stride + from, w.stride, 1,
                            x + from * w.stride, w.stride, b - from, kPanel);
    for (int v = 0; v < kVectors; ++v)
      solve_diagonal<true, true>(w.w + b * w.stride + b, w.stride, nullptr,
                                 x + b * w.stride + v * kFloats, w.stride);
  }
  product<kVectors, true>(x + to * w.stride, w.stride, w.w + to * w.stride + from, w.stride, 1,
                          x + from * w.stride, w.stride, to - from, w.rows - to);
}

KD_PART void finish_columns(const Work& w, long from, long to, long begin, long end) {
  long j = begin;
  for (; j + kWide <= end; j += kWide) finish_tile<TILE>(w, from, to, j);
  for (; j < end; j += kFloats) finish_tile<1>(w, from, to, j);
}

// Columns of both sides that have pivots, padded.
KD_PART long steps_of(const Work& w) {
  return padded(least(w.m, w.n));
}

KD_PART long factor_block(const Work& w, long from, long to) {
  for (long p = from; p < to; p += kPanel) {
    if (const long info = factor_panel(w, p)) return info;
    finish_columns(w, p, p + kPanel, p + kPanel, to);
  }
  return 0;
}

// The whole matrix, loaded before.
KD_PART long factor(const Work& w) {
  for (long from = 0; from < steps_of(w); from += BLOCK) {
    const long to = least(from + BLOCK, steps_of(w));
    if (const long info = factor_block(w, from, to)) return info;
    finish_columns(w, from, to, to, w.columns);
  }
  return 0;
}

KD_PART const Float* matrix_of(const kd_arguments* a, long each) {
  return (const Float*)a->inputs[0] + each * a->dims[KD_DIM_m] * a->dims[KD_DIM_n];
}
KD_PART int* info_of(const kd_arguments* a, long each) {
  return (int*)a->outputs[KD_INFO] + each;
}

// ---- stages of matrices that threads share; each has a work of its own

// Units are kPanel rows of each.
extern "C" void mlx_kd_lu_load(const kd_arguments* a, long begin, long end) {
  const long parts = padded(a->dims[KD_DIM_m]) / kPanel;
  for (long unit = begin; unit < end; ++unit) {
    const long each = unit / parts, row = unit % parts * kPanel;
    load_rows(work_of(a, each), matrix_of(a, each), row, row + kPanel);
    if (row == 0) *info_of(a, each) = 0;
  }
}

// Units are matrices; the stage is the block's first column.
extern "C" void mlx_kd_lu_panel(const kd_arguments* a, long begin, long end) {
  for (long each = begin; each < end; ++each) {
    const Work w = work_of(a, each);
    int* const info = info_of(a, each);
    if (!*info) *info = (int)factor_block(w, a->stage, least(a->stage + BLOCK, steps_of(w)));
  }
}

// Units are kWide columns right of the block.
extern "C" void mlx_kd_lu_columns(const kd_arguments* a, long begin, long end) {
  const long columns = padded(a->dims[KD_DIM_n]),
             steps = padded(least(a->dims[KD_DIM_m], a->dims[KD_DIM_n]));
  const long to = least(a->stage + BLOCK, steps), parts = (columns - to + kWide - 1) / kWide;
  for (long unit = begin; unit < end; ++unit) {
    const long first = to + unit % parts * kWide;
    if (!*info_of(a, unit / parts))
      finish_columns(work_of(a, unit / parts), a->stage, to, first, least(first + kWide, columns));
  }
}
