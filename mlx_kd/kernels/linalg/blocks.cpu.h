// What the factorisations share: their knobs, products of small tiles, matrices copied into rows
// whose lengths are multiples of PANEL.
#pragma once
#ifndef VEC
#define VEC 16  // bytes of a vector of floats
#endif
#ifndef PANEL
#define PANEL 16  // columns of a panel, or rows that are solved together: at least a vector
#endif
#ifndef ROWS
#define ROWS 8  // rows of a tile of products: a divisor of PANEL
#endif
#ifndef TILE
#define TILE 2  // its vectors
#endif

#include "../common/elements.cpu.h"

#define KD_PART [[maybe_unused]] static  // not every source uses all

constexpr int kPanel = PANEL;
constexpr int kParts = kPanel / kFloats;  // vectors of a panel's row
constexpr Int kSignless = Int(~0ul >> (65 - 8 * sizeof(Float)));

KD_INLINE Floats absolute(Floats x) {
  return (Floats)((Ints)x & kSignless);
}
// Of `yes` where the mask is -1, of `no` where it is 0.
KD_INLINE Floats chosen(Ints mask, Floats yes, Floats no) {
  return (Floats)(((Ints)yes & mask) | ((Ints)no & ~mask));
}
// -1 in lane `column` of the vectors of a panel's row, and in those after it.
KD_INLINE Ints lanes_at(int part, int column) {
  Ints lane = {};
  for (int i = 0; i < kFloats; ++i) lane[i] = part * kFloats + i;
  return (Ints)(lane == column);
}
KD_INLINE Ints lanes_after(int part, int column) {
  Ints lane = {};
  for (int i = 0; i < kFloats; ++i) lane[i] = part * kFloats + i;
  return (Ints)(lane > column);
}

KD_INLINE long least(long x, long y) {
  return x < y ? x : y;
}
KD_PART long padded(long n) {
  return (n + kPanel - 1) / kPanel * kPanel;
}
// Floats between rows of `columns` elements, apart from what would share sets of a cache.
KD_PART long stride_of(long columns) {
  return columns % 32 == 0 ? columns + 16 : columns;
}

// The largest absolute value of `count` elements; NaN where one is NaN or infinite.
KD_PART Float largest(const Float* x, long count) {
  Floats most = {}, spoilt = {};
  long i = 0;
  for (; i + kFloats <= count; i += kFloats) {
    const Floats each = load(x + i), size = absolute(each);
    most = size > most ? size : most;
    spoilt += each * 0.0f;
  }
  Float result = 0, bad = 0;
  for (; i < count; ++i) {
    const Float size = x[i] < 0 ? -x[i] : x[i];
    result = size > result ? size : result;
    bad += x[i] * 0.0f;
  }
  for (int lane = 0; lane < kFloats; ++lane) {
    result = most[lane] > result ? most[lane] : result;
    bad += spoilt[lane];
  }
  return result + bad;
}

KD_PART void fill(Float* to, long count, Float value) {
  for (long i = 0; i < count; ++i) to[i] = value;
}

// ---- products: to -= a b, or to = a b, where element (i, k) of a is at i * row + k * step

template <int kVectors, bool kMinus>
KD_INLINE void product_tile(Float* to, long to_stride, const Float* a, long row, long step,
                            const Float* b, long b_stride, long depth) {
  Floats sum[ROWS][kVectors];
#pragma GCC unroll 16
  for (int i = 0; i < ROWS; ++i)
    for (int v = 0; v < kVectors; ++v)
      sum[i][v] = kMinus ? load(to + i * to_stride + v * kFloats) : Floats{};
  for (long k = 0; k < depth; ++k, a += step, b += b_stride) {
    Floats x[kVectors];
    for (int v = 0; v < kVectors; ++v) x[v] = load(b + v * kFloats);
#pragma GCC unroll 16
    for (int i = 0; i < ROWS; ++i)
      for (int v = 0; v < kVectors; ++v)
        if (kMinus)
          sum[i][v] -= a[i * row] * x[v];
        else
          sum[i][v] += a[i * row] * x[v];
  }
#pragma GCC unroll 16
  for (int i = 0; i < ROWS; ++i)
    for (int v = 0; v < kVectors; ++v) store(to + i * to_stride + v * kFloats, sum[i][v]);
}

// `rows` is a multiple of ROWS.
template <int kVectors, bool kMinus>
KD_INLINE void product(Float* to, long to_stride, const Float* a, long row, long step,
                       const Float* b, long b_stride, long depth, long rows) {
  for (long i = 0; i < rows; i += ROWS)
    product_tile<kVectors, kMinus>(to + i * to_stride, to_stride, a + i * row, row, step, b,
                                   b_stride, depth);
}

// ---- transposing as many vectors as each has lanes

template <int... kLane>
struct Lanes {};
template <int kCount, int... kLane>
struct LanesTo : LanesTo<kCount - 1, kCount - 1, kLane...> {};
template <int... kLane>
struct LanesTo<0, kLane...> {
  typedef Lanes<kLane...> All;
};

template <int kStep, int... kLane>
KD_INLINE void exchange(Floats& x, Floats& y, Lanes<kLane...>) {
  const Floats low =
      __builtin_shufflevector(x, y, (kLane & kStep ? kFloats + kLane - kStep : kLane)...);
  const Floats high =
      __builtin_shufflevector(x, y, (kLane & kStep ? kFloats + kLane : kLane + kStep)...);
  x = low, y = high;
}

template <int kStep>
KD_INLINE void exchange_pairs(Floats* x) {
#pragma GCC unroll 16
  for (int i = 0; i < kFloats; ++i)
    if (!(i & kStep)) exchange<kStep>(x[i], x[i + kStep], typename LanesTo<kFloats>::All{});
  if constexpr (kStep > 1) exchange_pairs<kStep / 2>(x);
}

KD_INLINE void transpose(Floats* x) {
  exchange_pairs<kFloats / 2>(x);
}
