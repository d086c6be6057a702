// Products of rows of W with all rows of x: x w for two streams of rows at once. Two rows that are
// far apart, each stream read from its first row to its last, keep the memory busiest: on two cores
// of a Zen 4 0.90 to 1.0 of the speed of a plain read, and adjacent rows together 0.44 to 0.61.
#pragma once
#include "dots.cpu.h"

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

// `count` codes of a row from column `from` on, a multiple of 8, as floats.
KD_INLINE void floats_of(const Shape& shape, const unsigned char* codes, long from, long count,
                         float* to) {
  typedef unsigned long Eight __attribute__((vector_size(64)));
  typedef float EightFloats __attribute__((vector_size(32)));
  const unsigned long bits = (unsigned long)shape.bits;
  const Eight shifts = Eight{0, 1, 2, 3, 4, 5, 6, 7} * bits;
  for (long i = 0; i < count; i += 8) {
    // Eight bytes that lie in the row, for the row may end where the memory does.
    const long at = (from + i) / 8 * shape.bits, last = shape.row_bytes - 8;
    const long begin = at < last ? at : last;
    const unsigned long word = take<unsigned long>(codes + begin) >> 8 * (at - begin);
    const Eight code = (Eight{} + word) >> shifts & ((1ul << bits) - 1);
    if (shape.format == kAffine) {
      const EightFloats value = __builtin_convertvector(
          __builtin_convertvector(code, int __attribute__((vector_size(32)))), EightFloats);
      __builtin_memcpy(to + i, &value, sizeof value);
    } else if (shape.format == kMxfp8) {
      for (int j = 0; j < 8; ++j) to[i + j] = float8_lanes(Uints{} + unsigned(code[j]))[0];
    } else {
      for (int j = 0; j < 8; ++j) to[i + j] = kFloat4[code[j]];
    }
  }
}

constexpr long kMostGroup = 128;

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

template <Way kWay, int kM>
KD_INLINE void add_rows(const Shape& shape, const Prepared& x, [[maybe_unused]] const Made& made,
                        long m, const Matrix (&rows)[2], Floats (&sums)[2][kM]) {
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
  if constexpr (kWay == kLookUp2) add_two_rows<2, kM>(shape, x, m, rows, made.tables, sums);
  if constexpr (kWay == kLookUp4) add_two_rows<4, kM>(shape, x, m, rows, made.tables, sums);
  if constexpr (kWay == kLookUp8) add_two_rows<8, kM>(shape, x, m, rows, made.tables, sums);
#if KD_PACKED
  if constexpr (kWay == kUnpack || kWay == kUnpackFloats)
    add_two_packed_rows<kWay == kUnpackFloats, kM>(shape, x, m, rows, made.unpacker, sums);
#endif
#endif
}

// A batch of both streams, rows m .. m + kM of x. sink(row of x, sums): kBatch lanes of the first
// stream, then kBatch of the second. Rows past `last` are those of `last`.
template <Way kWay, int kM, class Sink>
static void batch_of(const Shape& shape, const Prepared& x, const Made& made, long m,
                     const Stream (&streams)[2], const long (&last)[2], const Sink& sink) {
  Floats parts[kM][2 * kBatch];
  for (long r = 0; r < kBatch; ++r) {
    const long row[2] = {streams[0].row + r, streams[1].row + r};
    Floats sums[2][kM] = {};
    if (row[0] <= last[0] || row[1] <= last[1]) {
      const Matrix rows[2] = {row_of(shape, streams[0], row[0] < last[0] ? row[0] : last[0]),
                              row_of(shape, streams[1], row[1] < last[1] ? row[1] : last[1])};
      add_rows<kWay, kM>(shape, x, made, m, rows, sums);
    }
    KD_UNROLL
    for (int i = 0; i < kM; ++i) parts[i][r] = sums[0][i], parts[i][kBatch + r] = sums[1][i];
  }
  for (int i = 0; i < kM; ++i) sink(m + i, sums_of(parts[i]));
}

template <Way kWay, class Sink>
static void rows_in(const Shape& shape, const Prepared& x, Stream (&streams)[2], long count,
                    const long (&last)[2], const Sink& sink) {
  const Made made = make_for(shape);
  for (long r = 0; r < count; r += kBatch) {
    const auto to = [&](long m, Floats sums) { sink(m, streams[0].row, streams[1].row, sums); };
    long m = 0;
#if !defined(ONE_ROW)  // of x: then less is compiled
    for (; m + 8 <= shape.m; m += 8) batch_of<kWay, 8>(shape, x, made, m, streams, last, to);
    for (; m + 4 <= shape.m; m += 4) batch_of<kWay, 4>(shape, x, made, m, streams, last, to);
    for (; m + 2 <= shape.m; m += 2) batch_of<kWay, 2>(shape, x, made, m, streams, last, to);
#endif
    if (m < shape.m) batch_of<kWay, 1>(shape, x, made, m, streams, last, to);
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
#if KD_DOT
    case kDots:
      return rows_in<kDots>(shape, x, streams, count, last, sink);
    case kLookUp2:
      return rows_in<kLookUp2>(shape, x, streams, count, last, sink);
    case kLookUp4:
      return rows_in<kLookUp4>(shape, x, streams, count, last, sink);
    case kLookUp8:
      return rows_in<kLookUp8>(shape, x, streams, count, last, sink);
#if KD_PACKED
    case kUnpack:
      return rows_in<kUnpack>(shape, x, streams, count, last, sink);
    case kUnpackFloats:
      return rows_in<kUnpackFloats>(shape, x, streams, count, last, sink);
#endif
#endif
    case kFloats:
      return rows_in<kFloats>(shape, x, streams, count, last, sink);
    default:
      return rows_in<kFloatCodes>(shape, x, streams, count, last, sink);
  }
}
