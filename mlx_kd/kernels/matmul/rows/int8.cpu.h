// Products with x in int8, of affine codes of 4 and 8 bits on processors with AVX512_VNNI, or on
// Arm with the dot products of bytes (sdot; for codes of 8 bits, which are unsigned, usdot); all
// others are exact. Columns whose codes are in one lane of a chunk, 8 of 4 bits and 4 of 8 bits,
// have one scale: the largest of them is 127. Biases are multiplied by the exact sums of x.
#pragma once
#include "results.cpu.h"

#if defined(__AVX512VNNI__) && defined(__AVX512BW__) && VEC == 64
#define KD_INT8 8  // the widest codes
#elif defined(__ARM_FEATURE_DOTPROD) && defined(__ARM_FEATURE_MATMUL_INT8) && VEC == 16
#define KD_INT8 8
#elif defined(__ARM_FEATURE_DOTPROD) && VEC == 16
#define KD_INT8 4
#else
#define KD_INT8 0
#endif

KD_INLINE bool takes_int8([[maybe_unused]] const Shape& shape) {
  return shape.bits <= KD_INT8 && shape.format == kAffine && (shape.bits == 4 || shape.bits == 8);
}

#if KD_INT8
typedef unsigned char Codes __attribute__((vector_size(VEC)));
typedef int Ints __attribute__((vector_size(VEC)));

// x of a call: (chunks, m) of the columns as bytes, and a scale for each lane. Of codes of 4 bits,
// even columns are before the odd ones.
template <int kBits>
constexpr long kChunkColumns = 8 * VEC / kBits;
template <int kBits>
constexpr long kChunkBytes = kChunkColumns<kBits> + VEC;

#if VEC == 64

// Each lane becomes the largest of its 4 or 8.
template <int kCount>
KD_INLINE Floats largest_of(Floats x) {
  const auto larger = [](Floats a, Floats b) { return a > b || a != a ? a : b; };
  x = larger(x,
             __builtin_shufflevector(x, x, 1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14));
  x = larger(x,
             __builtin_shufflevector(x, x, 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13));
  if constexpr (kCount == 8)
    x = larger(x,
               __builtin_shufflevector(x, x, 4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11));
  return x;
}

// Columns of one chunk; zeros behind the row's end.
template <int kBits>
KD_INLINE void put_chunk(const T* x, unsigned char* to) {
  constexpr int each = 32 / kBits;
  unsigned char bytes[kChunkColumns<kBits>];
  float scales[16];
  KD_UNROLL
  for (int part = 0; part < kChunkColumns<kBits> / 16; ++part) {
    const Floats some = float_lanes(take<Elements>(x + 16 * part));
    const Floats most = largest_of<each>((Floats)((Uints)some & 0x7fffffff));
    const Floats by = most > 0.0f && most < 3e38f ? 127.0f / most : Floats{};
    const Uints rounded = (Uints)(some * by + 12582912.0f);  // the integer is in the low bits
    const Bytes low = __builtin_convertvector(rounded, Bytes);
    __builtin_memcpy(bytes + 16 * part, &low, sizeof low);
    for (int lane = 0; lane < 16 / each; ++lane)
      scales[16 / each * part + lane] = most[each * lane] * (1.0f / 127);
  }
  if constexpr (kBits == 4) {
    typedef unsigned short Pairs __attribute__((vector_size(64)));
    typedef unsigned char Half __attribute__((vector_size(32)));
    KD_UNROLL
    for (int half = 0; half < 2; ++half) {
      const Pairs pairs = take<Pairs>(bytes + 64 * half);
      const Half even = __builtin_convertvector(pairs, Half);
      const Half odd = __builtin_convertvector(pairs >> 8, Half);
      __builtin_memcpy(to + 32 * half, &even, sizeof even);
      __builtin_memcpy(to + 64 + 32 * half, &odd, sizeof odd);
    }
  } else {
    __builtin_memcpy(to, bytes, sizeof bytes);
  }
  __builtin_memcpy(to + kChunkColumns<kBits>, scales, sizeof scales);
}
#else
template <int kBits>
KD_INLINE void put_chunk(const T* x, unsigned char* to) {
  constexpr long columns = kChunkColumns<kBits>, each = 32 / kBits;
  float wide[columns], scales[kLanes];
  for (long i = 0; i < columns; i += kLanes) {
    const Floats some = float_lanes(take<Elements>(x + i));
    __builtin_memcpy(wide + i, &some, sizeof some);
  }
  for (long lane = 0; lane < kLanes; ++lane) {
    float most = 0;
    for (long i = lane * each; i < (lane + 1) * each; ++i) {
      const float size = __builtin_fabsf(wide[i]);
      most = size > most || size != size ? size : most;
    }
    const float by = most > 0.0f && most < 3e38f ? 127.0f / most : 0.0f;
    for (long i = lane * each; i < (lane + 1) * each; ++i) {
      const long at = kBits == 4 ? i % 2 * (columns / 2) + i / 2 : i;
      to[at] = (unsigned char)__builtin_bit_cast(unsigned, wide[i] * by + 12582912.0f);
    }
    scales[lane] = most * (1.0f / 127);
  }
  __builtin_memcpy(to + columns, scales, sizeof scales);
}
#endif

template <int kBits>
static void put_int8_row(const Shape& shape, const T* x, long row, unsigned char* to) {
  constexpr long columns = kChunkColumns<kBits>;
  for (long c = 0; c * columns < shape.k; ++c) {
    unsigned char* const chunk = to + (c * shape.m + row) * kChunkBytes<kBits>;
    const long left = shape.k - c * columns;
    if (left >= columns) {
      put_chunk<kBits>(x + c * columns, chunk);
    } else {
      T whole[columns] = {};
      __builtin_memcpy(whole, x + c * columns, left * sizeof(T));
      put_chunk<kBits>(whole, chunk);
    }
  }
}

template <int kBits>
KD_INLINE Ints dot_bytes(Ints sum, Codes codes, Codes x) {
#if VEC == 64
  asm("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(codes), "v"(x));
#else
  if constexpr (kBits == 4) asm("sdot %0.4s, %1.16b, %2.16b" : "+w"(sum) : "w"(codes), "w"(x));
#if KD_INT8 == 8
  if constexpr (kBits == 8) asm("usdot %0.4s, %1.16b, %2.16b" : "+w"(sum) : "w"(codes), "w"(x));
#endif
#endif
  return sum;
}

// Of the lanes of a chunk whose first column is `column` of the groups of `scales`.
template <int kBits>
KD_INLINE Floats scales_of_chunk(Floats scales, long column, int shift) {
#if VEC == 64
  const Uints lane = Uints{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15} *
                     unsigned(kChunkColumns<kBits> / 16);
  return lanes_at(scales, (lane + unsigned(column)) >> shift);
#else
  return Floats{} + scales[column >> shift];  // a chunk is in one group
#endif
}

template <int kBits>
struct InInt8 {};

template <int kM, int kBits>
KD_INLINE void add_rows(const InInt8<kBits>&, const Shape& shape, const Prepared& x, long m,
                        const Matrix (&rows)[2], Floats (&sums)[2][kM]) {
  constexpr long columns = kChunkColumns<kBits>;
  const bool fetches = PREFETCH > 0 && 2 * shape.m * shape.k > 8192;
  const int shift = __builtin_ctzl((unsigned long)shape.group);
  const long each = kLanes * shape.group / columns;  // chunks of kLanes groups
  const long chunks = (shape.k + columns - 1) / columns;
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
      const unsigned char* const parts =
          (const unsigned char*)x.planes + (c * shape.m + m) * kChunkBytes<kBits>;
      KD_UNROLL
      for (int s = 0; s < 2; ++s) {
        const unsigned char* const from = rows[s].codes + VEC * c;
        const long left = rows[s].end - from;
        const Codes codes = left >= VEC ? take<Codes>(from) : take_some<Codes>(from, left);
        if (fetches) __builtin_prefetch(from + PREFETCH, 0, 2);
        const Floats scale = scales_of_chunk<kBits>(scales[s], (c - first) * columns, shift);
        KD_UNROLL
        for (int i = 0; i < kM; ++i) {
          const unsigned char* const part = parts + i * kChunkBytes<kBits>;
          Ints sum = {};
          if constexpr (kBits == 4) {
            sum = dot_bytes<4>(sum, codes & 15, take<Codes>(part));
            sum = dot_bytes<4>(sum, (Codes)((Uints)codes >> 4) & 15, take<Codes>(part + VEC));
          } else {
            sum = dot_bytes<8>(sum, codes, take<Codes>(part));
          }
          sums[s][i] +=
              __builtin_convertvector(sum, Floats) * (scale * take<Floats>(part + columns));
        }
      }
    }
  }
}
#endif

// One row of x, of a call that takes_int8.
static void prepare_int8_row([[maybe_unused]] const Shape& shape, [[maybe_unused]] const T* x,
                             [[maybe_unused]] long row, [[maybe_unused]] const Prepared& to) {
#if KD_INT8
  unsigned char* const bytes = (unsigned char*)to.planes;
  if (shape.bits == 4) return put_int8_row<4>(shape, x, row, bytes);
  put_int8_row<8>(shape, x, row, bytes);
#endif
}

template <class To>
static void put_int8_rows([[maybe_unused]] const Shape& shape, [[maybe_unused]] const Prepared& x,
                          const Matrix& w, long begin, long end, const To& to) {
  put_halves(w, begin, end, to,
             [&]([[maybe_unused]] Stream(&streams)[2], [[maybe_unused]] long count,
                 [[maybe_unused]] const long(&last)[2], [[maybe_unused]] const auto& sink) {
#if KD_INT8
               if (shape.bits == 4)
                 return rows_in(InInt8<4>{}, shape, x, streams, count, last, sink);
               rows_in(InInt8<8>{}, shape, x, streams, count, last, sink);
#endif
             });
}
