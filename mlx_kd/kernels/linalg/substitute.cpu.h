// Substitution: the rows of x (n, line) become those of T^-1 x, for a tile of columns after the
// other. T is in rows that are `stride` floats apart, padded by the identity to n = a multiple of
// kPanel, with 1 / T[i][i] in inverse[i].
#pragma once

#include "blocks.cpu.h"

// Columns of right sides, padded to vectors.
KD_PART long line_of(long columns) {
  return (columns + kFloats - 1) / kFloats * kFloats;
}

struct Triangle {
  const Float *t, *inverse;
  long n, stride;
};

// One vector of a panel's rows, by the block on the diagonal; kUnit: whose diagonal counts as 1.
template <bool kLower, bool kUnit>
static __attribute__((noinline)) void solve_diagonal(const Float* block, long stride,
                                                     const Float* inverse, Float* to, long line) {
  Floats x[kPanel];
#pragma GCC unroll 32
  for (int r = 0; r < kPanel; ++r) x[r] = load(to + r * line);
#pragma GCC unroll 32
  for (int k = 0; k < kPanel; ++k) {
    const int r = kLower ? k : kPanel - 1 - k;
    if (!kUnit) x[r] *= inverse[r];
    store(to + r * line, x[r]);
#pragma GCC unroll 32
    for (int i = kLower ? r + 1 : 0; i < (kLower ? kPanel : r); ++i)
      x[i] -= block[i * stride + r] * x[r];
  }
}

// Rows [from, n) of kVectors vectors of columns; those before are 0.
template <int kVectors, bool kUnit>
KD_INLINE void forward_tile(const Triangle& t, Float* x, long line, long from) {
  for (long b = from; b < t.n; b += kPanel) {
    Float* const to = x + b * line;
    product<kVectors, true>(to, line, t.t + b * t.stride + from, t.stride, 1, x + from * line, line,
                            b - from, kPanel);
    for (int v = 0; v < kVectors; ++v)
      solve_diagonal<true, kUnit>(t.t + b * t.stride + b, t.stride, t.inverse + b, to + v * kFloats,
                                  line);
  }
}

// Rows [0, end); those from there on are 0.
template <int kVectors>
KD_INLINE void backward_tile(const Triangle& t, Float* x, long line, long end) {
  for (long b = end - kPanel; b >= 0; b -= kPanel) {
    Float* const to = x + b * line;
    const long next = b + kPanel;
    product<kVectors, true>(to, line, t.t + b * t.stride + next, t.stride, 1, x + next * line, line,
                            end - next, kPanel);
    for (int v = 0; v < kVectors; ++v)
      solve_diagonal<false, false>(t.t + b * t.stride + b, t.stride, t.inverse + b,
                                   to + v * kFloats, line);
  }
}

constexpr long kWide = TILE * kFloats;

// Columns [begin, end) of x. kFromIdentity: x is the identity.
template <bool kUnit, bool kFromIdentity>
KD_PART void forward(const Triangle& t, Float* x, long line, long begin, long end) {
  long j = begin;
  for (; j + kWide <= end; j += kWide)
    forward_tile<TILE, kUnit>(t, x + j, line, kFromIdentity ? least(j, t.n) / kPanel * kPanel : 0);
  for (; j < end; j += kFloats)
    forward_tile<1, kUnit>(t, x + j, line, kFromIdentity ? least(j, t.n) / kPanel * kPanel : 0);
}
template <bool kFromIdentity>
KD_PART void backward(const Triangle& t, Float* x, long line, long begin, long end) {
  long j = begin;
  for (; j + kWide <= end; j += kWide)
    backward_tile<TILE>(t, x + j, line, kFromIdentity ? least(padded(j + kWide), t.n) : t.n);
  for (; j < end; j += kFloats)
    backward_tile<1>(t, x + j, line, kFromIdentity ? least(padded(j + kFloats), t.n) : t.n);
}

// ---- right sides in and out, by columns [begin, end) of line_of(columns)

// Row i of x is row order[i] of b (n, columns), or row i; the padding is 0.
KD_PART void load_sides(Float* x, long line, long rows, const Float* b, long n, long columns,
                        const int* order, long begin, long end) {
  for (long i = 0; i < rows; ++i) {
    Float* const to = x + i * line;
    long j = begin;
    if (i < n) {
      const Float* const from = b + (order ? order[i] : i) * columns;
      for (; j + kFloats <= end && j + kFloats <= columns; j += kFloats)
        store(to + j, load(from + j));
      for (; j < end && j < columns; ++j) to[j] = from[j];
    }
    for (; j < end; ++j) to[j] = 0;
  }
}

KD_PART void load_identity(Float* x, long line, long rows, long begin, long end) {
  for (long i = 0; i < rows; ++i)
    for (long j = begin; j < end; j += kFloats) store(x + i * line + j, Floats{});
  for (long j = begin; j < end && j < rows; ++j) x[j * line + j] = 1;
}

// Column j of x is column order[j] of what is stored, or column j.
KD_PART void store_sides(const Float* x, long line, Float* to, long n, long columns,
                         const int* order, long begin, long end) {
  const long last = least(end, columns);
  for (long i = 0; i < n; ++i) {
    const Float* const from = x + i * line;
    Float* const row = to + i * columns;
    long j = begin;
    if (order) {
      for (; j < last; ++j) row[order[j]] = from[j];
      continue;
    }
    for (; j + kFloats <= last; j += kFloats) store(row + j, load(from + j));
    for (; j < last; ++j) row[j] = from[j];
  }
}

KD_PART void store_nan(Float* to, long n, long columns, long begin, long end) {
  for (long i = 0; i < n; ++i)
    for (long j = begin; j < end && j < columns; ++j) to[i * columns + j] = __builtin_nanf("");
}
