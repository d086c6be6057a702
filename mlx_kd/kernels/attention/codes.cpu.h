// Rows of codes as vectors of numbers, and the sums of the lanes of several vectors.
#pragma once
#include "../common/exp2.cpu.h"

constexpr int kLanes = VEC / 4;

KD_INLINE Floats vector_at(const float* from) {
  Floats value;
  __builtin_memcpy(&value, from, sizeof value);
  return value;
}

KD_INLINE void put_at(float* to, Floats value) {
  __builtin_memcpy(to, &value, sizeof value);
}

KD_INLINE float element(T stored) {
#if KD_DTYPE == 0
  return stored;
#elif KD_DTYPE == 2
  const unsigned bits = unsigned(stored) << 16;
  float value;
  __builtin_memcpy(&value, &bits, 4);
  return value;
#else
  T row[kStep] = {stored};
  return load(row).part[0][0];
#endif
}

// --- codes ---

typedef unsigned char Bytes __attribute__((vector_size(kLanes)));
typedef int Ints __attribute__((vector_size(VEC)));

// gcc takes a conversion from bytes to ints element by element: it gets the instruction, or two
// steps.
KD_INLINE Ints widened(Bytes bytes) {
#if defined(__clang__)
  return __builtin_convertvector(bytes, Ints);
#elif VEC == 64 && defined(__AVX512F__)
  typedef char Chars __attribute__((vector_size(16)));
  return __builtin_ia32_pmovzxbd512_mask((Chars)bytes, Ints{}, (unsigned short)-1);
#else
  typedef unsigned short Shorts __attribute__((vector_size(2 * kLanes)));
  return __builtin_convertvector(__builtin_convertvector(bytes, Shorts), Ints);
#endif
}

// kLanes codes from code `at` of a row on.
template <int kBits>
KD_INLINE Floats codes_at(const unsigned char* row, long at) {
  if constexpr (kBits == 8) {
    Bytes bytes;
    __builtin_memcpy(&bytes, row + at, sizeof bytes);
    return __builtin_convertvector(widened(bytes), Floats);
  } else {
    typedef unsigned char Pairs __attribute__((vector_size(kLanes / 2)));
    Pairs pairs;
    __builtin_memcpy(&pairs, row + at / 2, sizeof pairs);
#if VEC == 64
    const Bytes twice =
        __builtin_shufflevector(pairs, pairs, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
#elif VEC == 32
    const Bytes twice = __builtin_shufflevector(pairs, pairs, 0, 0, 1, 1, 2, 2, 3, 3);
#else
    const Bytes twice = __builtin_shufflevector(pairs, pairs, 0, 0, 1, 1);
#endif
    const Ints wide = widened(twice);
    Ints shift;
    for (int i = 0; i < kLanes; ++i) shift[i] = i % 2 * 4;
    return __builtin_convertvector(wide >> shift & 15, Floats);
  }
}

// Keys or values of one head.
struct Coded {
  const unsigned char* codes;
  const T *scales, *biases;
  long code_stride, scale_stride, bias_stride;  // from a row to the next: bytes, elements
  long width, group, groups, bytes;             // of a row; `bytes` of codes

  const unsigned char* row(long j) const { return codes + j * code_stride; }
};

// Scales and biases of a tile as floats: (key, group, 2).
KD_INLINE void widen_scales(const Coded& coded, long begin, long count, float* to) {
  for (long j = 0; j < count; ++j) {
    const T* scales = coded.scales + (begin + j) * coded.scale_stride;
    const T* biases = coded.biases + (begin + j) * coded.bias_stride;
    for (long g = 0; g < coded.groups; ++g, to += 2)
      to[0] = element(scales[g]), to[1] = element(biases[g]);
  }
}

// --- sums of lanes ---

// Of two vectors: the sums of their halves, one after the other; then of quarters, and so on.
template <int kHalf>
KD_INLINE Floats fold(Floats a, Floats b) {
#if VEC == 64
  if constexpr (kHalf == 8)
    return __builtin_shufflevector(a, b, 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23) +
           __builtin_shufflevector(a, b, 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30,
                                   31);
  else if constexpr (kHalf == 4)
    return __builtin_shufflevector(a, b, 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27) +
           __builtin_shufflevector(a, b, 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30,
                                   31);
  else if constexpr (kHalf == 2)
    return __builtin_shufflevector(a, b, 0, 1, 4, 5, 8, 9, 12, 13, 16, 17, 20, 21, 24, 25, 28, 29) +
           __builtin_shufflevector(a, b, 2, 3, 6, 7, 10, 11, 14, 15, 18, 19, 22, 23, 26, 27, 30,
                                   31);
  else
    return __builtin_shufflevector(a, b, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28,
                                   30) +
           __builtin_shufflevector(a, b, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
#elif VEC == 32
  if constexpr (kHalf == 4)
    return __builtin_shufflevector(a, b, 0, 1, 2, 3, 8, 9, 10, 11) +
           __builtin_shufflevector(a, b, 4, 5, 6, 7, 12, 13, 14, 15);
  else if constexpr (kHalf == 2)
    return __builtin_shufflevector(a, b, 0, 1, 4, 5, 8, 9, 12, 13) +
           __builtin_shufflevector(a, b, 2, 3, 6, 7, 10, 11, 14, 15);
  else
    return __builtin_shufflevector(a, b, 0, 2, 4, 6, 8, 10, 12, 14) +
           __builtin_shufflevector(a, b, 1, 3, 5, 7, 9, 11, 13, 15);
#else
  if constexpr (kHalf == 2)
    return __builtin_shufflevector(a, b, 0, 1, 4, 5) + __builtin_shufflevector(a, b, 2, 3, 6, 7);
  else
    return __builtin_shufflevector(a, b, 0, 2, 4, 6) + __builtin_shufflevector(a, b, 1, 3, 5, 7);
#endif
}

// The sums of kLanes vectors, in order.
template <int kHalf>
KD_INLINE Floats sums_of(Floats (&v)[kLanes]) {
  if constexpr (kHalf == 0) {
    return v[0];
  } else {
    KD_UNROLL
    for (int i = 0; i < kHalf; ++i) v[i] = fold<kHalf>(v[2 * i], v[2 * i + 1]);
    return sums_of<kHalf / 2>(v);
  }
}
