// Products of rows of W with all rows of x: x w for two streams of rows at once. Two rows that are
// far apart, each stream read from its first row to its last, keep the memory busiest: on two cores
// of a Zen 4 0.90 to 1.0 of the speed of a plain read, and adjacent rows together 0.44 to 0.61.
#pragma once
#include "../weights/codes.cpu.h"
#include "dots.cpu.h"

#ifndef MOST_ROWS
#define MOST_ROWS 8  // of x that are multiplied together: with fewer less is compiled
#endif

// Rows whose sums are reduced together, of each stream.
constexpr long kBatch = kLanes / 2;

struct Stream {
  Matrix matrix;
  long row;  // the first of the batch
};

KD_INLINE Matrix row_of(const Shape& shape, const Stream& stream, long row) {
  const Matrix& w = stream.matrix;
  return {w.codes + row * shape.row_bytes, w.end, w.scales + row * shape.scale_bytes,
          w.biases + row * shape.scale_bytes};
}

// Lane i becomes the sum of the lanes of parts[i].
KD_INLINE Floats sums_of(Floats* parts) {
#if VEC == 64
  KD_UNROLL
  for (int i = 0; i < 8; ++i) {
    const Floats a = parts[2 * i], b = parts[2 * i + 1];
    parts[i] =
        __builtin_shufflevector(a, b, 0, 16, 2, 18, 4, 20, 6, 22, 8, 24, 10, 26, 12, 28, 14, 30) +
        __builtin_shufflevector(a, b, 1, 17, 3, 19, 5, 21, 7, 23, 9, 25, 11, 27, 13, 29, 15, 31);
  }
  KD_UNROLL
  for (int i = 0; i < 4; ++i) {
    const Floats a = parts[2 * i], b = parts[2 * i + 1];
    parts[i] =
        __builtin_shufflevector(a, b, 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29) +
        __builtin_shufflevector(a, b, 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31);
  }
  KD_UNROLL
  for (int i = 0; i < 2; ++i) {
    const Floats a = parts[2 * i], b = parts[2 * i + 1];
    parts[i] =
        __builtin_shufflevector(a, b, 0, 1, 2, 3, 16, 17, 18, 19, 8, 9, 10, 11, 24, 25, 26, 27) +
        __builtin_shufflevector(a, b, 4, 5, 6, 7, 20, 21, 22, 23, 12, 13, 14, 15, 28, 29, 30, 31);
  }
  const Floats a = parts[0], b = parts[1];
  return __builtin_shufflevector(a, b, 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23) +
         __builtin_shufflevector(a, b, 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30,
                                 31);
#else
  Floats result;
  for (long i = 0; i < kLanes; ++i) result[i] = lanes_total(parts[i]);
  return result;
#endif
}

template <int kM>
KD_INLINE void add_float_row(const Shape& shape, const Prepared& x, long m, const Matrix& row,
                             Floats (&sums)[kM]) {
  for (long first = 0; first < shape.groups; first += kLanes) {
    const Floats scales = scales_at(shape, row.scales, first);
    add_biases(shape, x, m, row, first, sums);
    const long count = shape.groups - first < kLanes ? shape.groups - first : kLanes;
    KD_TURNS
    for (long g = 0; g < count; ++g) {
      float codes[kMostGroup];
      if (PREFETCH > 0 && 4 * shape.m * shape.k > 8192)
        __builtin_prefetch(row.codes + (first + g) * shape.group * shape.bits / 8 + PREFETCH, 0, 2);
      floats_of(shape, row.codes, (first + g) * shape.group, shape.group, codes);
      KD_UNROLL
      for (int i = 0; i < kM; ++i) {
        const float* const columns = x.floats + (m + i) * shape.k + (first + g) * shape.group;
        Floats product = {};
        for (long j = 0; j < shape.group; j += kLanes)
          product += take<Floats>(codes + j) * take<Floats>(columns + j);
        sums[i] += product * scales[g];
      }
    }
  }
}

#if KD_BFDOT
typedef T Eight __attribute__((vector_size(16)));

KD_INLINE Floats dot(Floats sum, Eight x, Eight w) {
  asm("bfdot %0.4s, %1.8h, %2.8h" : "+w"(sum) : "w"(x), "w"(w));
  return sum;
}

template <int kM>
KD_INLINE void add_dense_row(const Shape& shape, const Prepared& x, long m, const Matrix& row,
                             Floats (&sums)[kM]) {
  const T* const w = (const T*)row.codes;
  const T* const columns = (const T*)x.floats + m * shape.k;
  const bool fetches = PREFETCH > 0 && 2 * shape.m * shape.k > 8192;
  long j = 0;
  KD_TURNS
  for (; j + 8 <= shape.k; j += 8) {
    if (fetches) __builtin_prefetch((const char*)(w + j) + PREFETCH, 0, 2);
    const Eight part = take<Eight>(w + j);
    KD_UNROLL
    for (int i = 0; i < kM; ++i)
      sums[i] = dot(sums[i], take<Eight>(columns + i * shape.k + j), part);
  }
  if (j == shape.k) return;
  const Eight part = take_some<Eight>(w + j, shape.k - j);
  for (int i = 0; i < kM; ++i)
    sums[i] = dot(sums[i], take_some<Eight>(columns + i * shape.k + j, shape.k - j), part);
}
#else
template <int kM>
KD_INLINE void add_dense_row(const Shape& shape, const Prepared& x, long m, const Matrix& row,
                             Floats (&sums)[kM]) {
  const T* const w = (const T*)row.codes;
  const bool fetches = PREFETCH > 0 && 4 * shape.m * shape.k > 8192;
  long j = 0;
  KD_TURNS
  for (; j + kLanes <= shape.k; j += kLanes) {
    if (fetches) __builtin_prefetch((const char*)(w + j) + PREFETCH, 0, 2);
    const Floats part = float_lanes(take<Elements>(w + j));
    KD_UNROLL
    for (int i = 0; i < kM; ++i) sums[i] += part * take<Floats>(x.floats + (m + i) * shape.k + j);
  }
  if (j == shape.k) return;
  const Floats part = float_lanes(take_some<Elements>(w + j, shape.k - j));
  for (int i = 0; i < kM; ++i)
    sums[i] += part * take_some<Floats>(x.floats + (m + i) * shape.k + j, shape.k - j);
}
#endif

// The ways of a row, by its format: of dot products of bfloat16, where bits are looked up at once,
// unpacked, floats of 8 bits, or bfloat16 themselves; and of floats.
enum Way { kLookUp2, kLookUp4, kLookUp8, kUnpack, kUnpackFloats, kDots, kFloats, kFloatCodes };

static Way way_of(const Shape& shape) {
  if (!takes_dots(shape)) return shape.format == kDense ? kFloats : kFloatCodes;
  if (shape.format == kDense) return kDots;
  if (shape.format == kMxfp8) return kUnpackFloats;
  return shape.bits == 2   ? kLookUp2
         : shape.bits == 4 ? kLookUp4
         : shape.bits == 8 ? kLookUp8
                           : kUnpack;
}

// What a way makes once a task.
struct Made {
#if KD_DOT
  Tables tables;
#if KD_PACKED
  Unpacker unpacker;
#endif
#endif
};

static Made make_for([[maybe_unused]] const Shape& shape) {
  Made made;
#if KD_DOT
  made.tables = make_tables(shape);
#if KD_PACKED
  made.unpacker = make_unpacker(shape);
#endif
#endif
  return made;
}

template <Way kWay>
struct ByWay {
  Made made;
};

template <int kM, Way kWay>
KD_INLINE void add_rows([[maybe_unused]] const ByWay<kWay>& by, const Shape& shape,
                        const Prepared& x, long m, const Matrix (&rows)[2], Floats (&sums)[2][kM]) {
  if constexpr (kWay == kFloats || kWay == kFloatCodes) {
    for (int s = 0; s < 2; ++s) {
      if constexpr (kWay == kFloats)
        add_dense_row<kM>(shape, x, m, rows[s], sums[s]);
      else
        add_float_row<kM>(shape, x, m, rows[s], sums[s]);
    }
  }
#if KD_DOT
  if constexpr (kWay == kDots) add_two_dense_rows<kM>(shape, x, m, rows, sums);
  if constexpr (kWay == kLookUp2) add_two_rows<2, kM>(shape, x, m, rows, by.made.tables, sums);
  if constexpr (kWay == kLookUp4) add_two_rows<4, kM>(shape, x, m, rows, by.made.tables, sums);
  if constexpr (kWay == kLookUp8) add_two_rows<8, kM>(shape, x, m, rows, by.made.tables, sums);
#if KD_PACKED
  if constexpr (kWay == kUnpack || kWay == kUnpackFloats)
    add_two_packed_rows<kWay == kUnpackFloats, kM>(shape, x, m, rows, by.made.unpacker, sums);
#endif
#endif
}

// A batch of both streams, rows m .. m + kM of x; add_rows(by, ...) is what adds. sink(row of x,
// sums): kBatch lanes of the first stream, then kBatch of the second. Rows past `last` are those of
// `last`.
template <int kM, class By, class Sink>
static void batch_of(const By& by, const Shape& shape, const Prepared& x, long m,
                     const Stream (&streams)[2], const long (&last)[2], const Sink& sink) {
  Floats parts[kM][2 * kBatch];
  for (long r = 0; r < kBatch; ++r) {
    const long row[2] = {streams[0].row + r, streams[1].row + r};
    Floats sums[2][kM] = {};
    if (row[0] <= last[0] || row[1] <= last[1]) {
      const Matrix rows[2] = {row_of(shape, streams[0], row[0] < last[0] ? row[0] : last[0]),
                              row_of(shape, streams[1], row[1] < last[1] ? row[1] : last[1])};
      add_rows<kM>(by, shape, x, m, rows, sums);
    }
    KD_UNROLL
    for (int i = 0; i < kM; ++i) parts[i][r] = sums[0][i], parts[i][kBatch + r] = sums[1][i];
  }
  for (int i = 0; i < kM; ++i) sink(m + i, sums_of(parts[i]));
}

template <class By, class Sink>
static void rows_in(const By& by, const Shape& shape, const Prepared& x, Stream (&streams)[2],
                    long count, const long (&last)[2], const Sink& sink) {
  for (long r = 0; r < count; r += kBatch) {
    const auto to = [&](long m, Floats sums) { sink(m, streams[0].row, streams[1].row, sums); };
    long m = 0;
#if MOST_ROWS >= 8
    for (; m + 8 <= shape.m; m += 8) batch_of<8>(by, shape, x, m, streams, last, to);
#endif
#if MOST_ROWS >= 4
    for (; m + 4 <= shape.m; m += 4) batch_of<4>(by, shape, x, m, streams, last, to);
    for (; m + 2 <= shape.m; m += 2) batch_of<2>(by, shape, x, m, streams, last, to);
#endif
    if (m < shape.m) batch_of<1>(by, shape, x, m, streams, last, to);
    streams[0].row += kBatch, streams[1].row += kBatch;
  }
}

// `count` rows of both streams; row streams[s].row + i past last[s] counts as last[s]. sink(row of
// x, first row of the first stream's lanes, of the second's, sums).
template <class Sink>
static void two_streams(const Shape& shape, const Prepared& x, const Stream& a, const Stream& b,
                        long count, const long (&last)[2], const Sink& sink) {
  Stream streams[2] = {a, b};
  switch (way_of(shape)) {
#if KD_DOT && QUANTISED
    case kLookUp2:
      return rows_in(ByWay<kLookUp2>{make_for(shape)}, shape, x, streams, count, last, sink);
    case kLookUp4:
      return rows_in(ByWay<kLookUp4>{make_for(shape)}, shape, x, streams, count, last, sink);
    case kLookUp8:
      return rows_in(ByWay<kLookUp8>{make_for(shape)}, shape, x, streams, count, last, sink);
#if KD_PACKED
    case kUnpack:
      return rows_in(ByWay<kUnpack>{make_for(shape)}, shape, x, streams, count, last, sink);
    case kUnpackFloats:
      return rows_in(ByWay<kUnpackFloats>{make_for(shape)}, shape, x, streams, count, last, sink);
#endif
#elif KD_DOT
    case kDots:
      return rows_in(ByWay<kDots>{make_for(shape)}, shape, x, streams, count, last, sink);
#endif
    default:
#if QUANTISED
      return rows_in(ByWay<kFloatCodes>{make_for(shape)}, shape, x, streams, count, last, sink);
#else
      return rows_in(ByWay<kFloats>{make_for(shape)}, shape, x, streams, count, last, sink);
#endif
  }
}
