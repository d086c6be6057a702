// x w of two rows at once by dot products of bfloat16: codes are looked up, unpacked, or bfloat16
// themselves.
#pragma once
#include "prepared.cpu.h"

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

#if defined(__AVX512F__) && VEC == 64
KD_INLINE Floats lanes_at(Floats values, Uints index) {
  Floats found;
  asm("vpermps %2, %1, %0" : "=v"(found) : "v"(index), "v"(values));
  return found;
}
#endif

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
