// Rotary position embedding of heads, for CPU kernels: tables of cosines and sines, and the
// rotation of a row, after an rmsnorm where there is a weight. It is included below the knobs of
// steps.cpu.h.
//
// Angles are found in double: frequencies as powers of one ratio, the angle less a multiple of a
// quarter turn, then sine and cosine in float: off by 2 units of 2^-24 of 1 at any position.
#ifndef VEC
#define VEC 16
#endif
#ifndef HEADS
#define HEADS 1
#endif
#ifndef UNROLL
#define UNROLL 1
#endif
#ifndef EXACT
#define EXACT 0
#endif
#ifndef PREFETCH
#define PREFETCH 0
#endif
#pragma once
#include "../common/steps.cpu.h"
constexpr long kLanes = VEC / 4;

struct Rotation {
  double base, scale;
  const float* frequencies;  // or null: powers of the base
  long dims;                 // the elements that are rotated, even
  long width;                // of a row
  bool interleaved;          // pairs are (2i, 2i + 1), else (i, i + dims / 2)
};

// log(x) of a normal x > 0: x = 2^n m, and the series of atanh.
static double log_of(double x) {
  const unsigned long bits = __builtin_bit_cast(unsigned long, x);
  double n = double(long(bits >> 52) - 1023);
  double m = __builtin_bit_cast(double, (bits & 0xfffffffffffffUL) | 1023UL << 52);
  if (m > 1.4142135623730951) m *= 0.5, n += 1;
  const double z = (m - 1) / (m + 1), z2 = z * z;
  double series = 0;
  for (int k = 19; k > 0; k -= 2) series = series * z2 + 1.0 / k;
  return n * 0.6931471805599453 + 2 * z * series;
}

// exp(x) for |x| < 700.
static double exp_of(double x) {
  const double shifted = x * 1.4426950408889634 + 0x1.8p52, n = shifted - 0x1.8p52;
  const double f = x - n * 0.6931471805599453;
  double series = 1;
  for (int k = 13; k > 0; --k) series = series * f / k + 1;
  return series * __builtin_bit_cast(double, (unsigned long)(long(n) + 1023) << 52);
}

struct Turn {
  float c, s;
};

// Cosine and sine of a finite angle.
KD_INLINE Turn turn_of(double angle) {
  const double shifted = angle * 0.6366197723675814 + 0x1.8p52, n = shifted - 0x1.8p52;
  const float r = float((angle - n * 1.5707963267948966) - n * 6.123233995736766e-17), z = r * r;
  const long quarter = __builtin_bit_cast(long, shifted);
  const float odd =
      -0x1.555556p-3f + z * (0x1.111112p-7f + z * (-0x1.a01a02p-13f + z * 0x1.71de3ap-19f));
  const float even =
      0x1.555556p-5f + z * (-0x1.6c16c2p-10f + z * (0x1.a01a02p-16f - z * 0x1.27e4fcp-22f));
  const float sine = r + r * z * odd, cosine = 1.0f - 0.5f * z + z * z * even;
  const float c = quarter & 1 ? sine : cosine, s = quarter & 1 ? cosine : sine;
  return {(quarter + 1) & 2 ? -c : c, quarter & 2 ? -s : s};
}

// Where element e of a step is among the floats of its parts.
KD_INLINE long slot_of(long e) {
  return e / kStep * kStep + e % kStep % kParts * kLanes + e % kStep / kParts;
}

// Floats of each table: whole steps.
KD_INLINE long table_size(const Rotation& by) {
  return (by.dims + 2 * kStep) / kStep * kStep;
}

// Cosines and sines of one position, in the order in which rows are read: of half-split pairs as
// the first of them, of interleaved ones twice, with the sines of the first negated (of bfloat16,
// whose steps part the pairs, once).
static void fill_tables(const Rotation& by, long position, float* cosines, float* sines) {
  const long half = by.dims / 2;
  const double ratio = exp_of(-log_of(by.base) / double(half > 0 ? half : 1));
  double frequency = 1;
  for (long i = 0; i < half; ++i, frequency *= ratio) {
    const double rate = by.frequencies ? 1.0 / double(by.frequencies[i]) : frequency;
    const Turn turn = turn_of(double(position) * by.scale * rate);
    if (!by.interleaved) {
      cosines[slot_of(i)] = turn.c, sines[slot_of(i)] = turn.s;
    } else if (kParts == 2) {
      cosines[i] = turn.c, sines[i] = turn.s;
    } else {
      cosines[2 * i] = cosines[2 * i + 1] = turn.c;
      sines[2 * i] = -turn.s, sines[2 * i + 1] = turn.s;
    }
  }
}

#if VEC == 64
#define KD_SWAP 1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14
#elif VEC == 32
#define KD_SWAP 1, 0, 3, 2, 5, 4, 7, 6
#else
#define KD_SWAP 1, 0, 3, 2
#endif

KD_INLINE Floats floats(const float* from) {
  Floats result;
  __builtin_memcpy(&result, from, sizeof result);
  return result;
}

// A row and the scale of its norm; without a weight there is no norm.
struct Source {
  const T* x;
  const T* weight;
  float scale;
};

KD_INLINE Step load_up_to(const T* from, long count) {
  return count < kStep ? load_some(from, count) : load(from);
}
KD_INLINE void store_up_to(T* to, Step step, long count) {
  if (count < kStep)
    store_some(to, step, count);
  else
    store(to, step);
}

KD_INLINE Step read(const Source& from, long at, long count) {
  Step x = load_up_to(from.x + at, count);
  if (!from.weight) return x;
  const Step w = load_up_to(from.weight + at, count);
  KD_UNROLL
  for (int p = 0; p < kParts; ++p) x.part[p] = x.part[p] * from.scale * w.part[p];
  return x;
}

KD_INLINE float square_sum(const T* x, long width) {
  Floats sums[2] = {};
  for (long j = 0; j < width; j += kStep) {
    const Step step = load_up_to(x + j, width - j);
    KD_UNROLL
    for (int p = 0; p < kParts; ++p) sums[p] += step.part[p] * step.part[p];
  }
  sums[0] += sums[1];
  for (long half = kLanes / 2; half > 0; half /= 2)
    for (long i = 0; i < half; ++i) sums[0][i] += sums[0][i + half];
  return sums[0][0];
}

// R rows that are turned together.
template <int R>
struct Rows {
  Source from[R];
  T* to[R];
};

KD_INLINE Floats term(Floats a, Floats b) {
  return EXACT ? product(a, b) : a * b;
}

template <int R>
KD_INLINE void turn_halves(const Rows<R>& rows, long half, const float* cosines, const float* sines,
                           long i, long count) {
  KD_UNROLL
  for (int r = 0; r < R; ++r) {
    Step a = read(rows.from[r], i, count), b = read(rows.from[r], half + i, count);
    KD_UNROLL
    for (int p = 0; p < kParts; ++p) {
      const Floats c = floats(cosines + i + p * kLanes), s = floats(sines + i + p * kLanes);
      const Floats first = term(a.part[p], c) - term(b.part[p], s);
      b.part[p] = term(a.part[p], s) + term(b.part[p], c);
      a.part[p] = first;
    }
    store_up_to(rows.to[r] + i, a, count);
    store_up_to(rows.to[r] + half + i, b, count);
  }
}

template <int R>
KD_INLINE void turn_pairs(const Rows<R>& rows, const float* cosines, const float* sines, long i,
                          long count) {
  KD_UNROLL
  for (int r = 0; r < R; ++r) {
    Step x = read(rows.from[r], i, count);
#if KD_DTYPE == 2
    const Floats c = floats(cosines + i / 2), s = floats(sines + i / 2);
    const Floats first = term(x.part[0], c) - term(x.part[1], s);
    x.part[1] = term(x.part[0], s) + term(x.part[1], c);
    x.part[0] = first;
#else
    const Floats swapped = __builtin_shufflevector(x.part[0], x.part[0], KD_SWAP);
    x.part[0] = term(x.part[0], floats(cosines + i)) + term(swapped, floats(sines + i));
#endif
    store_up_to(rows.to[r] + i, x, count);
  }
}

// `turn(i, count)` for the steps of `count` elements, UNROLL at once.
template <class Turn>
KD_INLINE void each_step(long count, const Turn& turn) {
  long i = 0;
  for (; i + UNROLL * kStep <= count; i += UNROLL * kStep) {
    KD_UNROLL
    for (int k = 0; k < UNROLL; ++k) turn(i + k * kStep, kStep);
  }
  for (; i + kStep <= count; i += kStep) turn(i, kStep);
  if (i < count) turn(i, count - i);
}

struct Tables {
  const Rotation& by;
  const float *cosines, *sines;
};

// Heads of one position; `weight` may be null.
struct Heads {
  const T* x;
  long stride;  // from head to head
  T* y;
  long out_stride;
  const T* weight;
  float eps;
};

template <int R>
static void turn_rows(const Tables& tables, const Heads& heads, long first) {
  const Rotation& by = tables.by;
  Rows<R> rows;
  for (int r = 0; r < R; ++r) {
    const T* const x = heads.x + (first + r) * heads.stride;
    rows.from[r] = {x, heads.weight, 1.0f};
    rows.to[r] = heads.y + (first + r) * heads.out_stride;
    if (heads.weight) {
      const float mean = square_sum(x, by.width) / float(by.width);
      rows.from[r].scale = 1.0f / __builtin_sqrtf(mean + heads.eps);
    }
    if constexpr (PREFETCH > 0)
      for (long at = 0; at < by.width * long(sizeof(T)); at += 64)
        __builtin_prefetch((const char*)(x + R * heads.stride) + at);
  }
  if (by.interleaved)
    each_step(
        by.dims, [&](long i, long count) __attribute__((always_inline)) {
          turn_pairs<R>(rows, tables.cosines, tables.sines, i, count);
        });
  else
    each_step(
        by.dims / 2, [&](long i, long count) __attribute__((always_inline)) {
          turn_halves<R>(rows, by.dims / 2, tables.cosines, tables.sines, i, count);
        });
  for (long i = by.dims; i < by.width; i += kStep)
    for (int r = 0; r < R; ++r)
      store_up_to(rows.to[r] + i, read(rows.from[r], i, by.width - i), by.width - i);
}

static void turn_heads(const Tables& tables, const Heads& heads, long count) {
  long first = 0;
  for (; first + HEADS <= count; first += HEADS) turn_rows<HEADS>(tables, heads, first);
  for (; first < count; ++first) turn_rows<1>(tables, heads, first);
}
