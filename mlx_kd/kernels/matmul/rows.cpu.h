// Products of rows of W with all rows of x: x w for two streams of rows at once. Two rows that are
// far apart, each stream read from its first row to its last, keep the memory busiest: on two cores
// of a Zen 4 0.90 to 1.0 of the speed of a plain read, and adjacent rows together 0.44 to 0.61.
#pragma once
#include "prepared.cpu.h"

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

// What the scales of a block of groups ask for at once: biases times the sums of groups of x.
template <int kM>
KD_INLINE void add_biases(const Shape& shape, const Prepared& x, long m, const Matrix& row, long g,
                          Floats (&sums)[kM]) {
  if (shape.format != kAffine) return;
  const Floats bias = values_at(row.biases + g * long(sizeof(T)), shape.groups - g);
  KD_UNROLL
  for (int i = 0; i < kM; ++i)
    sums[i] += bias * take<Floats>(x.sums + g * shape.m + (m + i) * kLanes);
}

#if KD_DOT
KD_INLINE Floats dot(Floats sum, Halves x, Halves w) {
  asm("vdpbf16ps %2, %1, %0" : "+v"(sum) : "v"(w), "v"(x));
  return sum;
}
KD_INLINE Halves look_up(Halves table, Halves index) {  // by the low five bits
  Halves found;
  asm("vpermw %2, %1, %0" : "=v"(found) : "v"(index), "v"(table));
  return found;
}
KD_INLINE Floats lanes_at(Floats values, Uints index) {
  Floats found;
  asm("vpermps %2, %1, %0" : "=v"(found) : "v"(index), "v"(values));
  return found;
}

KD_INLINE unsigned short upper_half(float value) {
  return (unsigned short)(__builtin_bit_cast(unsigned, value) >> 16);
}

// Codes of 2, 4 and 8 bits as bfloat16, by the low bits of a half word. A code of 8 bits is the sum
// of two: one of its low and one of its high bits.
struct Tables {
  Halves low, high;
};

KD_INLINE Tables make_tables(const Shape& shape) {
  const int mask = shape.bits == 2 ? 3 : 15;
  Tables made;
  for (int i = 0; i < 32; ++i) {
    made.low[i] = upper_half(shape.format == kAffine ? float(i & mask) : kFloat4[i & 15]);
    made.high[i] = upper_half(float(16 * (i & 15)));
  }
  return made;
}

template <int kBits, int kM>
KD_INLINE void add_two_rows(const Shape& shape, const Prepared& x, long m, const Matrix (&rows)[2],
                            const Tables& tables, Floats (&sums)[2][kM]) {
  constexpr long chunk = 512 / kBits;
  constexpr int lookups = kBits == 2 ? 8 : 4;
  const long x_bytes = 2 * kPlanes * shape.m * shape.k;
  const bool fetches = PREFETCH > 0 && x_bytes > 8192;
  const int shift = __builtin_ctzl((unsigned long)shape.group);
  const long each = kLanes * shape.group / chunk;  // chunks of kLanes groups
  const long chunks = (shape.k + chunk - 1) / chunk;
  const Uints lane =
      Uints{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15} * unsigned(chunk / 16);
  long g = 0;
  for (long first = 0; first < chunks; first += each, g += kLanes) {
    Floats scales[2];
    KD_UNROLL
    for (int s = 0; s < 2; ++s) {
      scales[s] = scales_at(shape, rows[s].scales, g);
      add_biases(shape, x, m, rows[s], g, sums[s]);
    }
    const long last = first + each < chunks ? first + each : chunks;
    KD_TURNS
    for (long c = first; c < last; ++c) {
      const Uints at = (lane + unsigned((c - first) * chunk)) >> shift;
      const unsigned short* const columns = x.planes + (c * shape.m + m) * kPlanes * chunk;
      Halves codes[2];
      Floats scale[2];
      KD_UNROLL
      for (int s = 0; s < 2; ++s) {
        const unsigned char* const from = rows[s].codes + 64 * c;
        const long left = rows[s].end - from;
        codes[s] = left >= 64 ? take<Halves>(from) : take_some<Halves>(from, left);
        if (fetches) __builtin_prefetch(from + PREFETCH, 0, 2);
        scale[s] = lanes_at(scales[s], at);
      }
      Floats products[2][kM] = {};
      KD_UNROLL
      for (int t = 0; t < lookups; ++t) {
        Halves w[2];
        KD_UNROLL
        for (int s = 0; s < 2; ++s)
          w[s] = look_up(kBits == 8 && t % 2 ? tables.high : tables.low,
                         codes[s] >> (kBits == 2 ? 2 * t : 4 * t));
        KD_UNROLL
        for (int i = 0; i < kM; ++i) {
          KD_UNROLL
          for (int p = 0; p < kPlanes; ++p) {
            const Halves part =
                take<Halves>(columns + (i * kPlanes + p) * chunk + 32 * (kBits == 8 ? t / 2 : t));
            KD_UNROLL
            for (int s = 0; s < 2; ++s) products[s][i] = dot(products[s][i], part, w[s]);
          }
        }
      }
      KD_UNROLL
      for (int s = 0; s < 2; ++s) {
        KD_UNROLL
        for (int i = 0; i < kM; ++i) sums[s][i] += products[s][i] * scale[s];
      }
    }
  }
}

#if KD_PACKED
typedef unsigned char HalfLine __attribute__((vector_size(32)));

// What makes bfloat16 of 32 codes of 3, 5 or 6 bits, or floats of 8, that follow one another.
struct Unpacker {
  Halves bytes, bits;  // of half word i: the bytes around its code, the code's place in them
  Halves low, high;    // bfloat16 of its low six bits
};

KD_INLINE Unpacker make_unpacker(const Shape& shape) {
  const int width = int(shape.bits), mask = (1 << width) - 1;
  unsigned char from[64], shift[64];
  for (int i = 0; i < 64; ++i) {
    from[i] = (unsigned char)(4 * width * (i / 8) / 8 + i % 8);
    shift[i] = (unsigned char)(4 * width * (i / 8) % 8 + i % 8 / 2 * width);
  }
  Unpacker made;
  __builtin_memcpy(&made.bytes, from, sizeof from);
  __builtin_memcpy(&made.bits, shift, sizeof shift);
  for (int i = 0; i < 32; ++i) {
    const float small = float(i & 7) * 0x1p-9f;  // a float of 8 bits below the normal ones
    made.low[i] = upper_half(shape.format == kMxfp8 ? small : float(i & mask));
    made.high[i] = upper_half(float((32 + i) & mask));
  }
  return made;
}

template <bool kFloats>
KD_INLINE Halves unpacked(const Unpacker& with, Halves codes) {
  if constexpr (kFloats) {
    const Halves code = __builtin_convertvector(take<HalfLine>(&codes), Halves);
    const Halves magnitude = code & 0x7f;
    const Halves small = (Halves)(magnitude < 8), nan = (Halves)(magnitude == 0x7f);
    const Halves normal = ((magnitude << 4) + (unsigned short)(120 << 7)) | (nan & 0x7fc0);
    return (small & look_up(with.low, magnitude)) | (~small & normal) | (code & 0x80) << 8;
  }
  Halves index;
  asm("vpermb %2, %1, %0" : "=v"(index) : "v"(with.bytes), "v"(codes));
  asm("vpmultishiftqb %1, %2, %0" : "=v"(index) : "v"(index), "v"(with.bits));
  asm("vpermi2w %2, %1, %0" : "+v"(index) : "v"(with.low), "v"(with.high));
  return index;
}

template <bool kFloats, int kM>
KD_INLINE void add_two_packed_rows(const Shape& shape, const Prepared& x, long m,
                                   const Matrix (&rows)[2], const Unpacker& unpacker,
                                   Floats (&sums)[2][kM]) {
  const long bytes = 4 * shape.bits;  // of a chunk of 32 columns
  const bool fetches = PREFETCH > 0 && 2 * kPlanes * shape.m * shape.k > 8192;
  const long each = shape.group / 32;
  for (long g = 0; g < shape.groups; g += kLanes) {
    Floats scales[2];
    KD_UNROLL
    for (int s = 0; s < 2; ++s) {
      scales[s] = scales_at(shape, rows[s].scales, g);
      add_biases(shape, x, m, rows[s], g, sums[s]);
    }
    const long count = shape.groups - g < kLanes ? shape.groups - g : kLanes;
    for (long j = 0; j < count; ++j) {
      Floats products[2][kM] = {};
      KD_TURNS
      for (long c = (g + j) * each; c < (g + j + 1) * each; ++c) {
        Halves w[2];
        KD_UNROLL
        for (int s = 0; s < 2; ++s) {
          const unsigned char* const from = rows[s].codes + bytes * c;
          const long left = rows[s].end - from;
          w[s] = unpacked<kFloats>(unpacker,
                                   left >= 64 ? take<Halves>(from) : take_some<Halves>(from, left));
          if (fetches) __builtin_prefetch(from + PREFETCH, 0, 2);
        }
        KD_UNROLL
        for (int i = 0; i < kM; ++i) {
          KD_UNROLL
          for (int p = 0; p < kPlanes; ++p) {
            const Halves part = take<Halves>(x.planes + ((c * shape.m + m + i) * kPlanes + p) * 32);
            KD_UNROLL
            for (int s = 0; s < 2; ++s) products[s][i] = dot(products[s][i], part, w[s]);
          }
        }
      }
      KD_UNROLL
      for (int s = 0; s < 2; ++s) {
        const Floats scale = lanes_at(scales[s], Uints{} + unsigned(j));
        KD_UNROLL
        for (int i = 0; i < kM; ++i) sums[s][i] += products[s][i] * scale;
      }
    }
  }
}
#endif

// Weights of bfloat16.
template <int kM>
KD_INLINE void add_two_dense_rows(const Shape& shape, const Prepared& x, long m,
                                  const Matrix (&rows)[2], Floats (&sums)[2][kM]) {
  constexpr long chunk = 32;
  const bool fetches = PREFETCH > 0 && 2 * shape.m * shape.k > 8192;
  const long whole = shape.k / chunk;
  Floats more[2][kM] = {};
  const auto add = [&](long c, Halves a, Halves b, Floats(&to)[2][kM]) {
    const unsigned short* const columns = x.planes + (c * shape.m + m) * chunk;
    KD_UNROLL
    for (int i = 0; i < kM; ++i) {
      const Halves part = take<Halves>(columns + i * chunk);
      to[0][i] = dot(to[0][i], part, a);
      to[1][i] = dot(to[1][i], part, b);
    }
  };
  const auto codes = [&](int s, long c) {
    const unsigned char* const from = rows[s].codes + 64 * c;
    if (fetches) __builtin_prefetch(from + PREFETCH, 0, 2);
    return take<Halves>(from);
  };
  long c = 0;
  KD_TURNS
  for (; c + 2 <= whole; c += 2) {
    add(c, codes(0, c), codes(1, c), sums);
    add(c + 1, codes(0, c + 1), codes(1, c + 1), more);
  }
  if (c < whole) add(c, codes(0, c), codes(1, c), sums), ++c;
  if (const long left = shape.row_bytes - 64 * c; left > 0)
    add(c, take_some<Halves>(rows[0].codes + 64 * c, left),
        take_some<Halves>(rows[1].codes + 64 * c, left), sums);
  KD_UNROLL
  for (int s = 0; s < 2; ++s) {
    KD_UNROLL
    for (int i = 0; i < kM; ++i) sums[s][i] += more[s][i];
  }
}
#endif

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
