// Chunks of queries and keys, and vectors of scores, for attention.
//
// A vector of scores has the scores of kRows rows and four keys, four lanes a row. For them a key
// is read in chunks of 16 bytes, which are repeated for every row of the vector. So the scores of
// four keys are four vectors of partial sums, and two shuffles and a sum halve them twice. Macros
// besides those of steps.cpu.h:
//
//   DOT   1: scores of bfloat16 by AVX512_BF16
//   ROWS  of a block: a multiple of 8            TILE  keys at a time: a multiple of 4
#ifndef DOT
#define DOT 0
#endif
#ifndef ROWS
#define ROWS 16
#endif
#ifndef TILE
#define TILE 64
#endif
#pragma once
#include "../common/exp2.cpu.h"
#include "../common/steps.cpu.h"
constexpr float kInfinity = __builtin_inff();
constexpr float kMasked = -0x1p126f, kLog2E = 0x1.715476p0f;
constexpr long kLanes = VEC / 4;
constexpr int kRows = VEC / 16;         // of a vector of scores
constexpr int kVectors = ROWS / kRows;  // of scores, of a block and four keys
constexpr int kQuads = TILE / 4;
typedef int Ints __attribute__((vector_size(VEC)));

#if VEC == 64
#define KD_QUADS(f) f(0), f(4), f(8), f(12)
#elif VEC == 32
#define KD_QUADS(f) f(0), f(4)
#else
#define KD_QUADS(f) f(0)
#endif
#define KD_LOW(i) i, kLanes + i, i + 1, kLanes + i + 1
#define KD_HIGH(i) i + 2, kLanes + i + 2, i + 3, kLanes + i + 3
#define KD_FIRST(i) i, i + 1, kLanes + i, kLanes + i + 1
#define KD_LAST(i) i + 2, i + 3, kLanes + i + 2, kLanes + i + 3
#define KD_NEXT(i) i + 1, i, i + 3, i + 2
#define KD_ACROSS(i) i + 2, i + 3, i, i + 1

#if KD_DTYPE == 2 && DOT && defined(__AVX512BF16__) && VEC == 64
#define KD_DOT 1
#else
#define KD_DOT 0
#endif
// Elements of a chunk, and vectors of floats that they fill.
constexpr long kChunk = KD_DTYPE == 2 ? 8 : 4;
constexpr int kHalves = KD_DTYPE == 2 && !KD_DOT ? 2 : 1;

struct Chunk {
  Floats half[kHalves];
};

// 16 bytes, once for each row of a vector. (gcc 12 makes a store and two loads of the shuffle.)
[[maybe_unused]] KD_INLINE Floats repeated(const void* from) {
  struct __attribute__((packed, may_alias)) Bytes {
    char at[16];
  };
#if VEC == 64 && defined(__AVX512F__)
  Floats result;
  asm("vbroadcastf32x4 %1, %0" : "=v"(result) : "m"(*(const Bytes*)from));
  return result;
#elif VEC == 32 && defined(__AVX__)
  Floats result;
  asm("vbroadcastf128 %1, %0" : "=x"(result) : "m"(*(const Bytes*)from));
  return result;
#else
  Floats result;
  for (int row = 0; row < kRows; ++row) __builtin_memcpy((char*)&result + 16 * row, from, 16);
  return result;
#endif
}

// A chunk of a key, once for each row of a vector.
KD_INLINE Chunk load_chunk(const T* from) {
#if KD_DTYPE == 1
  typedef long long Longs __attribute__((vector_size(kStepBytes)));
  long long four;
  __builtin_memcpy(&four, from, sizeof four);
  return {{widen((Stored)(Longs{} + four)).part[0]}};
#else
  const Floats all_rows = repeated(from);
#if KD_DTYPE == 2 && !KD_DOT
  return {{(Floats)((Uints)all_rows << 16), (Floats)((Uints)all_rows & 0xffff0000u)}};
#else
  return {{all_rows}};
#endif
#endif
}

KD_INLINE Chunk load_last_chunk(const T* from, long count) {
  T whole[kChunk] = {};
  for (long i = 0; i < count; ++i) whole[i] = from[i];
  return load_chunk(whole);
}

// A chunk of one row of q, at its place in a vector.
KD_INLINE void place(Chunk* to, int row, const T* from, long count) {
  T whole[kChunk] = {};
  if (count >= kChunk)
    __builtin_memcpy(whole, from, sizeof whole);
  else
    for (long i = 0; i < count; ++i) whole[i] = from[i];
#if KD_DTYPE == 0 || KD_DOT
  __builtin_memcpy((char*)to + 16 * row, whole, sizeof whole);
#else
  const Chunk wide = load_chunk(whole);
  for (int h = 0; h < kHalves; ++h)
    __builtin_memcpy((char*)&to->half[h] + 16 * row, &wide.half[h], 16);
#endif
}

KD_INLINE void add_products(Floats& sum, const Chunk& q, const Chunk& k) {
#if KD_DOT
  asm("vdpbf16ps %2, %1, %0" : "+v"(sum) : "v"(k.half[0]), "v"(q.half[0]));
#else
  KD_UNROLL
  for (int h = 0; h < kHalves; ++h) sum += q.half[h] * k.half[h];
#endif
}

// Of four vectors of partial sums, one for each key: the sum of each row and key.
KD_INLINE Floats sum_quads(Floats a, Floats b, Floats c, Floats d) {
  const Floats ab = __builtin_shufflevector(a, b, KD_QUADS(KD_LOW)) +
                    __builtin_shufflevector(a, b, KD_QUADS(KD_HIGH));
  const Floats cd = __builtin_shufflevector(c, d, KD_QUADS(KD_LOW)) +
                    __builtin_shufflevector(c, d, KD_QUADS(KD_HIGH));
  return __builtin_shufflevector(ab, cd, KD_QUADS(KD_FIRST)) +
         __builtin_shufflevector(ab, cd, KD_QUADS(KD_LAST));
}

// NaN in x is passed over.
KD_INLINE Floats larger(Floats x, Floats than) {
  return x > than ? x : than;
}

// In every lane what the four lanes of its row give.
KD_INLINE Floats largest_of_rows(Floats x) {
  x = larger(__builtin_shufflevector(x, x, KD_QUADS(KD_NEXT)), x);
  return larger(__builtin_shufflevector(x, x, KD_QUADS(KD_ACROSS)), x);
}
KD_INLINE Floats sum_of_rows(Floats x) {
  x += __builtin_shufflevector(x, x, KD_QUADS(KD_NEXT));
  return x + __builtin_shufflevector(x, x, KD_QUADS(KD_ACROSS));
}

// 2^x for x <= 0 or NaN; 0 below -127.
KD_INLINE Floats power_of(Floats x) {
  x = x < all(-127.0f) ? all(-127.0f) : x;
  const Power power = power_of_two(x, 1.0f);
  return power.scale * power.more + power.scale;
}

KD_INLINE float element(const T* from) {
  return load_some(from, 1).part[0][0];
}

KD_INLINE void fetch(const void* from, long bytes) {
  for (long line = 0; line < bytes; line += 64) __builtin_prefetch((const char*)from + line);
}
