// Numbers as integers of three signed digits, sums of their products with codes, and the scales of
// a tile: for coded_digits.cpu.h. A vector of scores has four rows and four keys, four lanes a row.
#ifndef ROWS
#define ROWS 4
#endif
#ifndef TILE
#define TILE 64
#endif
#ifndef PREFETCH
#define PREFETCH 0
#endif
#pragma once
#include "coded_block.cpu.h"

typedef unsigned char Codes __attribute__((vector_size(64)));
constexpr int kQuads = TILE / 4, kVectors = ROWS / 4, kChunk = 16;  // codes of a chunk

#define KD_QUADS(f) f(0), f(4), f(8), f(12)
#define KD_LOW(i) i, 16 + i, i + 1, 17 + i
#define KD_HIGH(i) i + 2, 18 + i, i + 3, 19 + i
#define KD_FIRST(i) i, i + 1, 16 + i, 17 + i
#define KD_LAST(i) i + 2, i + 3, 18 + i, 19 + i
#define KD_NEXT(i) i + 1, i, i + 3, i + 2
#define KD_ACROSS(i) i + 2, i + 3, i, i + 1

// 16 bytes, once for each row.
KD_INLINE Codes repeated(const void* from) {
  struct __attribute__((packed, may_alias)) Bytes {
    char at[16];
  };
  Codes result;
  asm("vbroadcasti32x4 %1, %0" : "=v"(result) : "m"(*(const Bytes*)from));
  return result;
}

KD_INLINE Ints dot(Ints sum, Codes codes, Codes digits) {
  asm("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(codes), "v"(digits));
  return sum;
}

// Of four vectors, one for each key: the sum of each row and key.
KD_INLINE Ints sum_quads(const Ints (&x)[4]) {
  const Ints ab = __builtin_shufflevector(x[0], x[1], KD_QUADS(KD_LOW)) +
                  __builtin_shufflevector(x[0], x[1], KD_QUADS(KD_HIGH));
  const Ints cd = __builtin_shufflevector(x[2], x[3], KD_QUADS(KD_LOW)) +
                  __builtin_shufflevector(x[2], x[3], KD_QUADS(KD_HIGH));
  return __builtin_shufflevector(ab, cd, KD_QUADS(KD_FIRST)) +
         __builtin_shufflevector(ab, cd, KD_QUADS(KD_LAST));
}

// In every lane what the four lanes of its row give. NaN is passed over.
KD_INLINE Floats largest_of_rows(Floats x) {
  Floats other = __builtin_shufflevector(x, x, KD_QUADS(KD_NEXT));
  x = other > x ? other : x;
  other = __builtin_shufflevector(x, x, KD_QUADS(KD_ACROSS));
  return other > x ? other : x;
}
KD_INLINE Floats sum_of_rows(Floats x) {
  x += __builtin_shufflevector(x, x, KD_QUADS(KD_NEXT));
  return x + __builtin_shufflevector(x, x, KD_QUADS(KD_ACROSS));
}
KD_INLINE Ints largest_of_rows(Ints x) {
  Ints other = __builtin_shufflevector(x, x, KD_QUADS(KD_NEXT));
  x = other > x ? other : x;
  other = __builtin_shufflevector(x, x, KD_QUADS(KD_ACROSS));
  return other > x ? other : x;
}

// --- numbers as integers ---

// x = unit n, with |n| <= 127 (1 + 256 + 65536). `factor` is 1 / unit, both powers of two.
struct Fixed {
  Floats factor, unit;
};

// `most`: the bits of the largest magnitude of each lane's row; NaN and infinity make units of NaN.
KD_INLINE Fixed fixed_for(Ints most) {
  Ints exponent = most >> 23;
  exponent = exponent < 23 ? Ints{} + 23 : exponent;
  const Floats scaled = (Floats)most * (Floats)((276 - exponent) << 23);
  exponent -= scaled > 8355711.0f;  // a mask of -1
  const Floats unit = (Floats)((exponent - 22) << 23);
  return {(Floats)((276 - exponent) << 23), most >= 0x7f800000 ? all(__builtin_nanf("")) : unit};
}

KD_INLINE Ints magnitude_bits(Floats x) {
  return (Ints)x & 0x7fffffff;
}

KD_INLINE Ints integers_of(Floats x, Floats factor) {
  Ints n;
  asm("vcvtps2dq %1, %0" : "=v"(n) : "v"(x * factor));
  return n;
}

// The digits of each lane in its bytes, the last of them first; then, in the 16 bytes of each row,
// four digits of each kind after those of another.
KD_INLINE Codes digits_of(Ints n) {
  const Ints digits = (n + 0x808080) ^ 0x808080;
  const Ints order =
      Ints{} + Ints{0x0c080400, 0x0d090501, 0x0e0a0602, 0x0f0b0703, 0x0c080400, 0x0d090501,
                    0x0e0a0602, 0x0f0b0703, 0x0c080400, 0x0d090501, 0x0e0a0602, 0x0f0b0703,
                    0x0c080400, 0x0d090501, 0x0e0a0602, 0x0f0b0703};
  Codes result;
  asm("vpshufb %2, %1, %0" : "=v"(result) : "v"(digits), "v"(order));
  return result;
}

// What three sums of products with digits come to.
KD_INLINE Floats number_of(Ints low, Ints middle, Ints high) {
  return __builtin_convertvector(high, Floats) * 65536.0f +
         __builtin_convertvector((middle << 8) + low, Floats);
}

// --- scales ---

// 16 elements, and the even and the odd ones of 32.
KD_INLINE Floats sixteen(const T* from) {
#if KD_DTYPE == 2
  typedef unsigned short Half __attribute__((vector_size(32)));
  Half half;
  __builtin_memcpy(&half, from, sizeof half);
  return (Floats)(__builtin_convertvector(half, Uints) << 16);
#else
  return load(from).part[0];
#endif
}

struct Pair {
  Floats even, odd;
};
KD_INLINE Pair parted(Floats a, Floats b) {
  return {__builtin_shufflevector(a, b, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30),
          __builtin_shufflevector(a, b, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31)};
}
KD_INLINE Pair parted(const T* from) {
#if KD_DTYPE == 2
  const Step step = load(from);
  return {step.part[0], step.part[1]};
#else
  return parted(sixteen(from), sixteen(from + 16));
#endif
}

// Numbers of `count` rows, (group, TILE); from = (row, group).
static void spread(const T* from, long stride, long groups, long count, float* to) {
  long j = 0;
  if (stride == groups && groups <= 4 && groups != 3)
    for (; j + 16 <= count; j += 16) {
      if (groups == 1) {
        put_at(to + j, sixteen(from + j));
      } else if (groups == 2) {
        const Pair two = parted(from + 2 * j);
        put_at(to + j, two.even), put_at(to + TILE + j, two.odd);
      } else {
        const Pair a = parted(from + 4 * j), b = parted(from + 4 * j + 32);
        const Pair even = parted(a.even, b.even), odd = parted(a.odd, b.odd);
        put_at(to + j, even.even), put_at(to + 2 * TILE + j, even.odd);
        put_at(to + TILE + j, odd.even), put_at(to + 3 * TILE + j, odd.odd);
      }
    }
  for (; j < count; ++j)
    for (long g = 0; g < groups; ++g) to[g * TILE + j] = element(from[j * stride + g]);
}

// --- codes of four rows ---

// Four rows from `at` on, the second to the fourth so many bytes after the first.
struct Four {
  long second, third, fourth;
};

// Two rows of 32 bytes, or four of 16, one after the other.
KD_INLINE Codes two_rows(const unsigned char* a, const unsigned char* b) {
  struct __attribute__((packed, may_alias)) Bytes {
    char at[32];
  };
  Codes result;
  asm("vmovdqu64 %1, %t0\n\tvinserti64x4 $1, %2, %0, %0"
      : "=&v"(result)
      : "m"(*(const Bytes*)a), "m"(*(const Bytes*)b));
  return result;
}
KD_INLINE Codes four_rows(const unsigned char* row, const Four& four) {
  struct __attribute__((packed, may_alias)) Bytes {
    char at[16];
  };
  Codes result;
  asm("vmovdqu64 %1, %x0\n\tvinserti32x4 $1, %2, %0, %0\n\tvinserti32x4 $2, %3, %0, %0\n\t"
      "vinserti32x4 $3, %4, %0, %0"
      : "=&v"(result)
      : "m"(*(const Bytes*)row), "m"(*(const Bytes*)(row + four.second)),
        "m"(*(const Bytes*)(row + four.third)), "m"(*(const Bytes*)(row + four.fourth)));
  return result;
}

// Bytes i of four rows beside each other: of 16 of two rows of 32 in each of two vectors, and of
// the 16 of four rows in one.
struct Order {
  Codes first, second, of_four;
};
static Order make_order() {
  Order order;
  for (int i = 0; i < 16; ++i)
    for (int row = 0; row < 4; ++row) {
      order.first[4 * i + row] = (unsigned char)(row * 32 + i);
      order.second[4 * i + row] = (unsigned char)(row * 32 + 16 + i);
      order.of_four[4 * i + row] = (unsigned char)(row * 16 + i);
    }
  return order;
}

// 32 codes of four rows: those of 4 bits are the even ones, then the odd ones.
template <int kBits>
KD_INLINE void load_codes(const unsigned char* row, const Four& four, const Order& order,
                          Codes (&codes)[2]) {
  if constexpr (kBits == 8) {
    const Codes ab = two_rows(row, row + four.second);
    const Codes cd = two_rows(row + four.third, row + four.fourth);
    codes[0] = order.first, codes[1] = order.second;
    asm("vpermi2b %2, %1, %0" : "+v"(codes[0]) : "v"(ab), "v"(cd));
    asm("vpermi2b %2, %1, %0" : "+v"(codes[1]) : "v"(ab), "v"(cd));
  } else {
    Codes both;
    asm("vpermb %1, %2, %0" : "=v"(both) : "v"(four_rows(row, four)), "v"(order.of_four));
    codes[0] = both & 15, codes[1] = (Codes)((Uints)both >> 4) & 15;
  }
}
