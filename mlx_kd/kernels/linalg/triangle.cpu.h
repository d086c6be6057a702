// A triangular matrix in work, as the substitutions take it: by rows, the other triangle 0, padded
// by the identity. The includer defines KD_INFO, the output that says where a matrix failed, and
// has included kd_arguments.h.
#pragma once

#include "substitute.cpu.h"

// The first row, from 1, whose diagonal is 0 or of which an element is not finite; 0: there is
// none.
KD_PART long first_bad_row(const Float* a, long n, bool upper, bool unit) {
  for (long i = 0; i < n; ++i) {
    const Float* const row = a + i * n;
    const long begin = upper ? i + unit : 0, end = upper ? n : i + !unit;
    const Float most = largest(row + begin, end - begin);
    if (!(most - most == 0) || (!unit && row[i] == 0)) return i + 1;
  }
  return 0;
}

struct Stored {
  const Float* a;
  long n;
  bool upper, transposed, unit;  // which triangle of a is read, and how it is taken
  bool lower() const { return upper == transposed; }
};

// Rows [begin, end) of the padded triangle (padded(n), stride), and 1 / its diagonal.
KD_PART void load_triangle(const Stored& s, Float* t, Float* inverse, long stride, long begin,
                           long end) {
  const long n = s.n, columns = padded(n);
  for (long i = begin; i < end; ++i) {
    Float* const to = t + i * stride;
    for (long j = 0; j < columns; j += kFloats) store(to + j, Floats{});
    to[i] = inverse[i] = 1;
    if (i >= n) continue;
    const long first = s.lower() ? 0 : i + 1, last = s.lower() ? i : n;
    if (!s.transposed) {
      long j = first;
      for (; j + kFloats <= last; j += kFloats) store(to + j, load(s.a + i * n + j));
      for (; j < last; ++j) to[j] = s.a[i * n + j];
    } else {
      for (long j = first; j < last; ++j) to[j] = s.a[j * n + i];
    }
    if (!s.unit) to[i] = s.a[i * n + i], inverse[i] = 1 / to[i];
  }
}

KD_PART int* info_of(const kd_arguments* a, long each) {
  return (int*)a->outputs[KD_INFO] + each;
}

// Triangle `which` of those that a slot has, `count` in all; the host counts the floats too.
KD_PART long triangle_floats(long n) {
  return padded(n) * (stride_of(padded(n)) + 1);
}
KD_PART Triangle triangle_of(const kd_arguments* a, long slot, long which, long count) {
  const long n = a->dims[KD_DIM_n], rows = padded(n), stride = stride_of(rows);
  const Float* const t = (const Float*)a->scratch[0] + (slot * count + which) * triangle_floats(n);
  return {t, t + rows * stride, rows, stride};
}
KD_PART void load_rows(const Stored& s, const Triangle& t, long begin, long end) {
  load_triangle(s, (Float*)t.t, (Float*)t.inverse, t.stride, begin, end);
}

// ---- stages of matrices that threads share: units are matrices, then kPanel rows of each, then
// kWide columns of each result. A source that includes this defines its triangles and what they
// make.

static constexpr long kTriangles = KD_TRIANGLES;
static Stored stored_of(const kd_arguments* a, long each, long which);
static bool is_unit(const kd_arguments* a);
static long sides_of(const kd_arguments* a);  // columns of a result
static void make_columns(const kd_arguments* a, long slot, long each, Float* x, long line,
                         long begin, long end);

// Columns [begin, end) of the result of one matrix, with x in the slot's part of the scratch
// memory.
KD_PART void make_result(const kd_arguments* a, long slot, long each, long begin, long end) {
  const long n = a->dims[KD_DIM_n], k = sides_of(a), line = line_of(k);
  Float* const to = (Float*)a->outputs[0] + each * n * k;
  if (*info_of(a, each)) {
    store_nan(to, n, k, begin, end);
    return;
  }
  Float* const x = (Float*)a->scratch[1] + slot * padded(n) * line;
  make_columns(a, slot, each, x, line, begin, end);
  store_sides(x, line, to, n, k, nullptr, begin, end);
}

KD_PART void examine(const kd_arguments* a, long each) {
  const Stored s = stored_of(a, each, 0);
  *info_of(a, each) = (int)first_bad_row(s.a, s.n, s.upper, is_unit(a));
}

// Whole matrices; the stage is how many a task has, which has a slot of its own.
KD_PART void make_results(const kd_arguments* a, long begin, long end) {
  const long slot = begin / a->stage, rows = padded(a->dims[KD_DIM_n]);
  for (long each = begin; each < end; ++each) {
    examine(a, each);
    for (long which = 0; which < kTriangles && !*info_of(a, each); ++which)
      load_rows(stored_of(a, each, which), triangle_of(a, slot, which, kTriangles), 0, rows);
    make_result(a, slot, each, 0, line_of(sides_of(a)));
  }
}

extern "C" void mlx_kd_triangle_examine(const kd_arguments* a, long begin, long end) {
  for (long each = begin; each < end; ++each) examine(a, each);
}

extern "C" void mlx_kd_triangle_load(const kd_arguments* a, long begin, long end) {
  const long parts = padded(a->dims[KD_DIM_n]) / kPanel;
  for (long unit = begin; unit < end; ++unit) {
    const long each = unit / parts, row = unit % parts * kPanel;
    for (long which = 0; which < kTriangles && !*info_of(a, each); ++which)
      load_rows(stored_of(a, each, which), triangle_of(a, each, which, kTriangles), row,
                row + kPanel);
  }
}

extern "C" void mlx_kd_triangle_sides(const kd_arguments* a, long begin, long end) {
  const long line = line_of(sides_of(a)), parts = (line + kWide - 1) / kWide;
  for (long unit = begin; unit < end; ++unit) {
    const long each = unit / parts, first = unit % parts * kWide;
    make_result(a, each, each, first, least(first + kWide, line));
  }
}
