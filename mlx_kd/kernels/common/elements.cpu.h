// Elements of the three types, and vectors of floats, for kernels that compute in float from the
// first load to the last store. Macros:
//
//   KD_DTYPE  0 float32, 1 float16, 2 bfloat16       VEC  bytes of a vector
#ifndef KD_DTYPE
#define KD_DTYPE 0
#endif
#ifndef VEC
#define VEC 16
#endif
#pragma once
#define KD_INLINE [[maybe_unused]] static inline __attribute__((always_inline))

#if KD_DTYPE == 2
typedef unsigned short T;
KD_INLINE float widen(T x) {
  return __builtin_bit_cast(float, (unsigned)x << 16);
}
KD_INLINE T narrow(float x) {  // to nearest, ties to even; NaN stays NaN
  const unsigned bits = __builtin_bit_cast(unsigned, x);
  return x != x ? 0x7fc0 : T((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}
#else
#if KD_DTYPE == 0
typedef float T;
#elif defined(__clang__)
typedef __fp16 T;
#else
typedef _Float16 T;
#endif
// Macros: no function of Clang's takes or gives an __fp16.
#define widen(x) ((float)(x))
#define narrow(x) ((T)(x))
#endif

constexpr long kLine = 16;  // floats of a cache line
constexpr long kFloats = VEC / 4;
typedef float Floats __attribute__((vector_size(VEC)));

KD_INLINE Floats load(const float* from) {
  Floats value;
  __builtin_memcpy(&value, from, sizeof value);
  return value;
}
KD_INLINE void store(float* to, Floats value) {
  __builtin_memcpy(to, &value, sizeof value);
}

KD_INLINE float sum_of(Floats x) {
  float part[kFloats];
  __builtin_memcpy(part, &x, sizeof part);
  for (long step = kFloats / 2; step > 0; step /= 2)
    for (long i = 0; i < step; ++i) part[i] += part[i + step];
  return part[0];
}
