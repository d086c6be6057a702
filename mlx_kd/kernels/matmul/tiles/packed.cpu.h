// Products of two packed operands, tile by tile.
//
// Both operands are cut into panels along the axis that stays in C: TILE_M rows of A, kWidthB
// columns of B. A panel holds, step by step of K, the elements of its width side by side, as
// floats. Where the processor has dot products of bfloat16, a step is two elements of K and a word
// is their pair. What is behind the last row, column or step is zero. A tile of C keeps its sums in
// registers: a step reads TILE_N vectors of the panel of B and multiplies them by each word of the
// panel of A. With tile registers (DOT 2) TILE_M is 32 and TILE_N 2, steps go by sixteens, and the
// panel of A holds the words of sixteen steps of a row side by side.
//
// Macros: those of steps.cpu.h and instructions.cpu.h, and
//
//   TILE_M    rows of a tile            PREFETCH  bytes ahead in the panel of B; 0: none
//   TILE_N    vectors of columns of a tile
#ifndef TILE_M
#define TILE_M 4
#endif
#ifndef TILE_N
#define TILE_N 2
#endif
#ifndef PREFETCH
#define PREFETCH 0
#endif
#pragma once
#include "finish.cpu.h"
#include "words.cpu.h"
#if KD_MATRICES
#include "../../common/tile_registers.cpu.h"
#endif

constexpr long kWidthA = TILE_M, kWidthB = TILE_N * kLanes;

// Less than a vector.
template <long kCount>
struct Some;
template <>
struct Some<8> {
  typedef T Elements __attribute__((vector_size(8 * sizeof(T))));
  typedef unsigned Words __attribute__((vector_size(32)));
};
template <>
struct Some<4> {
  typedef T Elements __attribute__((vector_size(4 * sizeof(T))));
  typedef unsigned Words __attribute__((vector_size(16)));
};
template <>
struct Some<2> {
  typedef T Elements __attribute__((vector_size(2 * sizeof(T))));
  typedef unsigned Words __attribute__((vector_size(8)));
};

// Words of one step of kCount rows. Vectors that are filled in part are slow to make, so the count
// is taken apart.
template <long kCount>
KD_INLINE void put_across(const T* row, const T* next, float* to) {
  constexpr long kSome = kCount >= kLanes ? kLanes
                         : kCount >= 8    ? 8
                         : kCount >= 4    ? 4
                         : kCount >= 2    ? 2
                                          : 1;
  if constexpr (kSome == kLanes || kSome == 1 || KD_DTYPE == 1) {
    const Floats words = words_across(row, next, kSome);
    __builtin_memcpy(to, &words, kSome * sizeof(float));
  } else if constexpr (KD_DTYPE == 0) {
    __builtin_memcpy(to, row, kSome * sizeof(float));
  } else {
    typedef typename Some<kSome>::Elements Elements;
    typedef typename Some<kSome>::Words Words;
    Words words = __builtin_convertvector(take<Elements>(row), Words);
    if (!KD_PAIRS)
      words <<= 16;
    else if (next)
      words |= __builtin_convertvector(take<Elements>(next), Words) << 16;
    __builtin_memcpy(to, &words, sizeof words);
  }
  if constexpr (kCount > kSome)
    put_across<kCount - kSome>(row + kSome, next ? next + kSome : next, to + kSome);
}
// The same of `valid` rows, and zeros.
template <long kWidth>
KD_INLINE void put_across(const T* row, const T* next, long valid, float* to) {
  KD_UNROLL
  for (long p = 0; p < kWidth; p += kLanes) {
    const Floats words = valid - p >= kLanes ? words_across(row + p, next ? next + p : next, kLanes)
                         : valid > p ? words_across(row + p, next ? next + p : next, valid - p)
                                     : Floats{};
    __builtin_memcpy(to + p, &words, least(kLanes, kWidth - p) * sizeof(float));
  }
}

// Elements [k, k + depth) of the panel that begins at `first`, to (steps, kWidth) words.
template <long kWidth>
static void pack_panel(const Operand& from, long first, long k, long depth, float* to) {
  const long valid = least(kWidth, from.count - first), steps = steps_of(depth);
  if (from.along != 1) {
    const T* row = from.base + first * from.across + k * from.along;
    const long there = (depth + kPerStep - 1) / kPerStep;
    for (long i = there * kWidth; i < steps * kWidth; ++i) to[i] = 0;
    for (long step = 0; step < there; ++step, row += kPerStep * from.along, to += kWidth) {
      const T* const next = kPerStep * step + 1 < depth ? row + from.along : nullptr;
      if (valid == kWidth)
        put_across<kWidth>(row, next, to);
      else
        put_across<kWidth>(row, next, valid, to);
    }
    return;
  }
  KD_UNROLL
  for (long p = 0; p < kWidth; p += kLanes) {
    const long rows = least(kLanes, valid - p);
    const T* const base = from.base + (first + p) * from.across + k;
    for (long step = 0; step < steps; step += kLanes) {
      Floats words[kLanes] = {};
      for (long r = 0; r < rows; ++r)
        words[r] = words_of(base + r * from.across + step * kPerStep, depth - step * kPerStep);
      transpose(words);
      for (long i = 0; i < kLanes && step + i < steps; ++i)
        __builtin_memcpy(to + (step + i) * kWidth + p, &words[i],
                         least(kLanes, kWidth - p) * sizeof(float));
    }
  }
}

#if KD_MATRICES
// The panel of A of 32 rows, as (sixteen steps, rows, 16) words.
static void pack_rows(const Operand& from, long first, long k, long depth, float* to) {
  const long valid = least(kMatrixRows, from.count - first);
  for (long done = 0; done < depth; done += 2 * kLanes, to += kMatrixRows * kLanes) {
    for (long half = 0; half < 2; ++half) {
      const long rows = least(kLanes, valid - half * kLanes);
      const T* const base = from.base + (first + half * kLanes) * from.across;
      Floats words[kLanes] = {};
      if (from.along == 1) {
        for (long r = 0; r < rows; ++r)
          words[r] = words_of(base + r * from.across + k + done, depth - done);
      } else if (rows > 0) {
        for (long step = 0; step < kLanes && done + 2 * step < depth; ++step) {
          const T* const row = base + (k + done + 2 * step) * from.along;
          const bool has_next = done + 2 * step + 1 < depth;
          words[step] = words_across(row, has_next ? row + from.along : nullptr, rows);
        }
        transpose(words);
      }
      __builtin_memcpy(to + half * kLanes * kLanes, words, sizeof words);
    }
  }
}

// A tile of C: sums (32, 2) vectors.
template <bool kBoth>
KD_INLINE void add_matrices(const float* a, const float* b, long steps, bool from_zero,
                            Floats* to) {
  if (from_zero)
    zero_sums<kBoth>();
  else
    load_sums<kBoth>(to);
  multiply_steps<kBoth>(a, (const Floats*)b, kPairsOfStep, steps / kPairsOfStep);
  store_sums<kBoth>(to);
}
KD_INLINE void add_matrices(const float* a, const float* b, long steps, bool from_zero, long rows,
                            Floats* to) {
  if (rows > kMatrixRows / 2)
    add_matrices<true>(a, b, steps, from_zero, to);
  else
    add_matrices<false>(a, b, steps, from_zero, to);
}
#endif

// Words of a panel: packed, or as they lie in an operand (lies_in_words), whose steps are in
// elements.
template <long kWidth>
struct Packed {
  const float* at;

  const float* word(long i, long step) const { return at + step * kWidth + i; }
};
struct Lying {
  const T* at;
  long across, along;  // from a word to the next one of another row, and of K

  const T* word(long i, long step) const { return at + i * across + step * along; }
};

// Adds the products of `steps` steps of both panels.
template <int kRows, int kVectors, class Left, class Right>
KD_INLINE void add_products(const Left& a, const Right& b, long steps,
                            Floats (&sums)[kRows][kVectors]) {
  KD_TURNS
  for (long step = 0; step < steps; ++step) {
    Floats columns[kVectors];
    KD_UNROLL
    for (int v = 0; v < kVectors; ++v) columns[v] = take<Floats>(b.word(v * kLanes, step));
    if (PREFETCH > 0) {
      KD_UNROLL
      for (int v = 0; v < kVectors * VEC; v += 64)
        __builtin_prefetch((const char*)b.word(0, step) + PREFETCH + v);
    }
    KD_UNROLL
    for (int i = 0; i < kRows; ++i) {
      const Floats row = Floats{} + take<float>(a.word(i, step));
      KD_UNROLL
      for (int v = 0; v < kVectors; ++v) {
#if KD_PAIRS
        asm("vdpbf16ps %2, %1, %0" : "+v"(sums[i][v]) : "v"(columns[v]), "v"(row));
#else
        sums[i][v] += columns[v] * row;
#endif
      }
    }
  }
}

// The same on sums in memory, (TILE_M, TILE_N) vectors: from zeros, or from what they are.
template <int kRows, int kVectors, class Left, class Right>
static void add_tile(const Left& a, const Right& b, long steps, bool from_zero, Floats* to) {
  Floats sums[kRows][kVectors];
  KD_UNROLL
  for (int i = 0; i < kRows; ++i) {
    KD_UNROLL
    for (int v = 0; v < kVectors; ++v) sums[i][v] = from_zero ? Floats{} : to[i * TILE_N + v];
  }
  add_products(a, b, steps, sums);
  KD_UNROLL
  for (int i = 0; i < kRows; ++i) {
    KD_UNROLL
    for (int v = 0; v < kVectors; ++v) to[i * TILE_N + v] = sums[i][v];
  }
}

template <int kVectors>
KD_INLINE void add_tile(const float* a, const float* b, long steps, bool from_zero, long rows,
                        Floats* to) {
  constexpr int kSome = (2 * TILE_M + 2) / 3, kFew = (TILE_M + 2) / 3;
  const Packed<kWidthA> left = {a};
  const Packed<kWidthB> right = {b};
  if (rows > kSome)
    add_tile<TILE_M, kVectors>(left, right, steps, from_zero, to);
  else if (rows > kFew)
    add_tile<kSome, kVectors>(left, right, steps, from_zero, to);
  else
    add_tile<kFew, kVectors>(left, right, steps, from_zero, to);
}

// A tile of `rows` rows and `columns` columns of C.
KD_INLINE void add_tile(const float* a, const float* b, long steps, bool from_zero, long rows,
                        long columns, Floats* to) {
  if (columns > kLanes)
    add_tile<TILE_N>(a, b, steps, from_zero, rows, to);
  else
    add_tile<1>(a, b, steps, from_zero, rows, to);
}

// The tile of panels p of A and q of B of y (m, n); sums (TILE_M, TILE_N) vectors.
static void finish_tile(const Finish& finish, long m, long n, long p, long q, const Floats* sums) {
  const long row = p * kWidthA, column = q * kWidthB;
  const long rows = least(kWidthA, m - row), columns = least(kWidthB, n - column);
  if (finish.is_plain() && columns == kWidthB) {
    for (long i = 0; i < rows; ++i) {
      KD_UNROLL
      for (long v = 0; v < TILE_N; ++v)
        finish.put_plain(row + i, column + v * kLanes, sums[i * TILE_N + v]);
    }
    return;
  }
  for (long i = 0; i < rows; ++i)
    for (long v = 0; v * kLanes < columns; ++v)
      finish.put(row + i, column + v * kLanes, least(kLanes, columns - v * kLanes),
                 sums[i * TILE_N + v]);
}
