// Rows of floats for the decompositions, and what is done to whole rows.
//
// A row has `padded` columns, a multiple of kLine, and what is beyond its elements is 0.
#pragma once

#include "../common/elements.cpu.h"

KD_INLINE long padded(long n) {
  return (n + kLine - 1) / kLine * kLine;
}

// Floats from one row to the next: padded, and not a multiple of what would share sets of a cache.
KD_INLINE long stride_of(long n) {
  const long columns = padded(n);
  return columns <= 2 * kLine || columns / kLine % 2 ? columns : columns + kLine;
}

// Of columns [from, to), multiples of kFloats.
KD_INLINE Float dot(const Float* x, const Float* y, long from, long to) {
  Floats sum[4] = {};
  long j = from;
  for (; j + 4 * kFloats <= to; j += 4 * kFloats)
    for (int v = 0; v < 4; ++v) sum[v] += load(x + j + v * kFloats) * load(y + j + v * kFloats);
  for (; j < to; j += kFloats) sum[0] += load(x + j) * load(y + j);
  return sum_of((sum[0] + sum[1]) + (sum[2] + sum[3]));
}

KD_INLINE void add_scaled(Float* y, Float scale, const Float* x, long from, long to) {
  for (long j = from; j < to; j += kFloats) store(y + j, load(y + j) + scale * load(x + j));
}

KD_INLINE void scale_row(Float* x, Float scale, long to) {
  for (long j = 0; j < to; j += kFloats) store(x + j, load(x + j) * scale);
}

// y[j][i] = x[i][j] for i < rows, j < columns; y's rows are padded with 0.
[[maybe_unused]] static void transpose(const Float* x, long x_stride, long rows, long columns,
                                       Float* y, long y_stride) {
  for (long j = 0; j < columns; ++j)
    for (long i = rows; i < padded(rows); ++i) y[j * y_stride + i] = 0;
  for (long i0 = 0; i0 < rows; i0 += kLine)
    for (long j = 0; j < columns; ++j) {
      const long end = i0 + kLine < rows ? i0 + kLine : rows;
      for (long i = i0; i < end; ++i) y[j * y_stride + i] = x[i * x_stride + j];
    }
}

// C[i] = sum over p of a[i * row + p * step] B[p], for i < rows, in the columns [0, columns).
template <int kRows, int kVectors>
KD_INLINE void product_tile(Float* c, long c_stride, const Float* a, long row, long step,
                            const Float* b, long b_stride, long terms) {
  Floats sum[kRows][kVectors] = {};
  for (long p = 0; p < terms; ++p)
    for (int v = 0; v < kVectors; ++v) {
      const Floats line = load(b + p * b_stride + v * kFloats);
      for (int i = 0; i < kRows; ++i) sum[i][v] += a[i * row + p * step] * line;
    }
  for (int i = 0; i < kRows; ++i)
    for (int v = 0; v < kVectors; ++v) store(c + i * c_stride + v * kFloats, sum[i][v]);
}

[[maybe_unused]] static void product(Float* c, long c_stride, const Float* a, long row, long step,
                                     const Float* b, long b_stride, long rows, long terms,
                                     long columns) {
  constexpr int kVectors = VEC == 64 ? 2 : 1;
  long i = 0;
  for (; i < rows; i += 4) {
    long j = 0;
    if (i + 4 > rows) break;
    for (; j + kVectors * kFloats <= columns; j += kVectors * kFloats)
      product_tile<4, kVectors>(c + i * c_stride + j, c_stride, a + i * row, row, step, b + j,
                                b_stride, terms);
    for (; j < columns; j += kFloats)
      product_tile<4, 1>(c + i * c_stride + j, c_stride, a + i * row, row, step, b + j, b_stride,
                         terms);
  }
  for (; i < rows; ++i)
    for (long j = 0; j < columns; j += kFloats)
      product_tile<1, 1>(c + i * c_stride + j, c_stride, a + i * row, row, step, b + j, b_stride,
                         terms);
}

// The power of 2 at or below a size, 1 for 0: what is divided by it is exact.
KD_INLINE Float power_near(Float size) {
  constexpr Float kTiny = Float(sizeof(Float) == 8 ? 0x1p-1000 : 0x1p-120);
  constexpr Int kMantissa = sizeof(Float) == 8 ? 0xfffffffffffff : 0x7fffff;
  if (size < kTiny) return size > 0 ? kTiny : 1;
  return __builtin_bit_cast(Float, __builtin_bit_cast(Int, size) & ~kMantissa);
}

[[maybe_unused]] static void store_nan(T* to, long count) {
  for (long i = 0; i < count; ++i) to[i] = narrow(__builtin_nanf(""));
}
