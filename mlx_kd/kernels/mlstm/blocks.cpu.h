// Padded blocks of floats and their products, for the CPU kernels of mLSTM. Macros:
//
//   ROWS  rows that a product works on together: 4, 8 or 16
//   TILE  vectors of columns that it works on together
//
// A block has its rows and columns padded with zeros to multiples of 16, and rows at a distance of
// an odd number of lines, so that a column does not fall into one set of the cache.
#ifndef ROWS
#define ROWS 4
#endif
#ifndef TILE
#define TILE 2
#endif
#pragma once
#include "numbers.cpu.h"

KD_INLINE long padded(long count) {
  return (count + kLine - 1) / kLine * kLine;
}
// Floats from a row to the next.
KD_INLINE long stride_of(long columns) {
  const long line = padded(columns);
  return line / kLine % 2 ? line : line + kLine;
}

// Rows of T, `line` of them from one to the next, times `by` into a block whose rows and columns
// beyond are 0.
KD_APART void load_columns(float* to, const T* from, long line, long rows, long columns, float by) {
  const long stride = stride_of(columns), all = padded(columns);
  for (long r = 0; r < rows; ++r, to += stride, from += line) {
    for (long c = 0; c < columns; ++c) to[c] = by * widen(from[c]);
    for (long c = columns; c < all; ++c) to[c] = 0;
  }
  for (long r = rows; r < padded(rows); ++r, to += stride)
    __builtin_memset(to, 0, (unsigned long)all * sizeof(float));
}

KD_INLINE void load_block(float* to, const T* from, long rows, long columns, float by) {
  load_columns(to, from, columns, rows, columns, by);
}

KD_APART void store_columns(T* to, long line, const float* from, long rows, long columns,
                            float by) {
  const long stride = stride_of(columns);
  for (long r = 0; r < rows; ++r, to += line, from += stride)
    for (long c = 0; c < columns; ++c) to[c] = narrow(by * from[c]);
}
KD_INLINE void store_block(T* to, const float* from, long rows, long columns, float by) {
  store_columns(to, columns, from, rows, columns, by);
}

// A row of float32 and the zeros behind it; all zeros without an array.
KD_INLINE void load_row(float* to, const float* from, long columns) {
  for (long c = 0; c < padded(columns); ++c) to[c] = from && c < columns ? from[c] : 0;
}

// The same between blocks and float32 arrays.
KD_APART void load_float_columns(float* to, const float* from, long line, long rows, long columns) {
  for (long r = 0; r < padded(rows); ++r)
    load_row(to + r * stride_of(columns), from && r < rows ? from + r * line : nullptr, columns);
}
KD_INLINE void load_floats(float* to, const float* from, long rows, long columns) {
  load_float_columns(to, from, columns, rows, columns);
}
KD_APART void store_float_columns(float* to, long line, const float* from, long rows, long columns,
                                  float by) {
  const long stride = stride_of(columns);
  for (long r = 0; r < rows; ++r, to += line, from += stride)
    for (long c = 0; c < columns; ++c) to[c] = by * from[c];
}
KD_INLINE void store_floats(float* to, const float* from, long rows, long columns, float by) {
  store_float_columns(to, columns, from, rows, columns, by);
}

// Row i of the result has the lanes of a, then those of b, taken by turns: kHigh, of their ends.
template <bool kHigh>
KD_INLINE Floats woven(Floats a, Floats b) {
  Floats made;
  KD_UNROLL
  for (int i = 0; i < kFloats; ++i) {
    const int lane = i / 2 + (kHigh ? kFloats / 2 : 0);
    made[i] = i % 2 ? b[lane] : a[lane];
  }
  return made;
}

// to = the block `from` (rows, columns) with rows and columns exchanged.
KD_APART void transpose(float* to, const float* from, long rows, long columns) {
  const long to_stride = stride_of(rows), stride = stride_of(columns);
  for (long c = 0; c < columns; c += kFloats)
    for (long r = 0; r < rows; r += kFloats) {
      Floats now[kFloats], next[kFloats];
      KD_UNROLL
      for (int i = 0; i < kFloats; ++i) now[i] = load(from + (r + i) * stride + c);
      KD_UNROLL
      for (int turn = 1; turn < kFloats; turn *= 2) {
        KD_UNROLL
        for (int i = 0; i < kFloats / 2; ++i) {
          next[2 * i] = woven<false>(now[i], now[i + kFloats / 2]);
          next[2 * i + 1] = woven<true>(now[i], now[i + kFloats / 2]);
        }
        KD_UNROLL
        for (int i = 0; i < kFloats; ++i) now[i] = next[i];
      }
      KD_UNROLL
      for (int i = 0; i < kFloats; ++i) store(to + (c + i) * to_stride + r, now[i]);
    }
}

// The left factor of a product: element (r, k) lies at at[r * stride + k], or, of one that is taken
// with rows and columns exchanged, at at[k * stride + r].
template <bool kExchanged>
struct Left {
  const float* at;
  long stride;
  inline __attribute__((always_inline)) float of(long r, long k) const {
    return kExchanged ? at[k * stride + r] : at[r * stride + k];
  }
};

template <int C, bool kExchanged>
KD_INLINE void add_products(Floats (&sum)[ROWS][C], Left<kExchanged> left, const float* right,
                            long stride, long from, long to) {
  right += from * stride;
  for (long k = from; k < to; ++k, right += stride) {
    Floats row[C];
    KD_UNROLL
    for (int c = 0; c < C; ++c) row[c] = load(right + c * kFloats);
    KD_UNROLL
    for (int r = 0; r < ROWS; ++r) {
      const float by = left.of(r, k);
      KD_UNROLL
      for (int c = 0; c < C; ++c) sum[r][c] += by * row[c];
    }
  }
}

// Which of the sum's terms, and which of the results, a block of rows [r, r + ROWS) needs.
enum class Part {
  all,
  before,  // terms [0, r + ROWS): the left factor is 0 above its diagonal
  after,   // terms from r on: it is 0 below its diagonal
  lower,   // all terms, of the results alone that lie in columns below r + ROWS
};

// A product's right factor and result.
struct Product {
  float* out;
  long out_stride, rows, columns;  // both counts are multiples of 16
  const float* right;
  long stride, terms;
};

template <int C, bool kExchanged>
KD_INLINE void multiply_tile(const Product& p, Left<kExchanged> left, Part part, float by,
                             long column) {
  for (long r = part == Part::lower ? column / ROWS * ROWS : 0; r < p.rows; r += ROWS) {
    Floats sum[ROWS][C] = {};
    float* const to = p.out + r * p.out_stride + column;
    if (by != 0) {
      KD_UNROLL
      for (int i = 0; i < ROWS; ++i)
        for (int c = 0; c < C; ++c) sum[i][c] = by * load(to + i * p.out_stride + c * kFloats);
    }
    const Left<kExchanged> from = {left.at + (kExchanged ? r : r * left.stride), left.stride};
    const long end = part == Part::before && r + ROWS < p.terms ? r + ROWS : p.terms;
    add_products<C>(sum, from, p.right + column, p.stride, part == Part::after ? r : 0, end);
    KD_UNROLL
    for (int i = 0; i < ROWS; ++i)
      for (int c = 0; c < C; ++c) store(to + i * p.out_stride + c * kFloats, sum[i][c]);
  }
}

// out (rows, columns) = left * right (terms, columns), plus `by` times out as it was.
template <bool kExchanged>
KD_APART void multiply(const Product& p, Left<kExchanged> left, Part part, float by) {
  long c = 0;
  for (; c + TILE * kFloats <= p.columns; c += TILE * kFloats)
    multiply_tile<TILE>(p, left, part, by, c);
  for (; c < p.columns; c += kFloats) multiply_tile<1>(p, left, part, by, c);
}

KD_INLINE float dot(const float* a, const float* b, long count) {  // a multiple of 16
  Floats sum = {};
  for (long i = 0; i < count; i += kFloats) sum += load(a + i) * load(b + i);
  return sum_of(sum);
}
// The first `count` lanes; the others become 0.
KD_INLINE Floats first_of(Floats value, long count) {
  Ints lane;
  KD_UNROLL
  for (int i = 0; i < kFloats; ++i) lane[i] = i;
  return lane < int(count) ? value : Floats{};
}
// to = by * to + with * from
KD_INLINE void blend(float* to, float by, const float* from, float with, long count) {
  for (long i = 0; i < count; i += kFloats)
    store(to + i, by * load(to + i) + with * load(from + i));
}
KD_INLINE void scale(float* to, float by, long count) {
  for (long i = 0; i < count; i += kFloats) store(to + i, by * load(to + i));
}
