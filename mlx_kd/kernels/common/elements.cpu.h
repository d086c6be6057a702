// Elements of the types, and vectors, for kernels that compute in float from the first load to the
// last store, and in double where the type is float64. Macros:
//
//   KD_DTYPE  0 float32, 1 float16, 2 bfloat16, 8 float64
//   VEC       bytes of a vector of floats; one of doubles has as many elements
#ifndef KD_DTYPE
#define KD_DTYPE 0
#endif
#ifndef VEC
#define VEC 16
#endif
#pragma once
#define KD_INLINE [[maybe_unused]] static inline __attribute__((always_inline))

#if KD_DTYPE == 8
typedef double Float;
typedef long Int;  // of the same size
#else
typedef float Float;
typedef int Int;
#endif

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
#if KD_DTYPE == 0 || KD_DTYPE == 8
typedef Float T;
#elif defined(__clang__) || defined(__aarch64__)  // GCC has no _Float16 there before version 13
typedef __fp16 T;
#else
typedef _Float16 T;
#endif
// Macros: no function takes or gives an __fp16.
#define widen(x) ((Float)(x))
#define narrow(x) ((T)(x))
#endif

constexpr long kLine = 16;  // floats of a cache line
constexpr long kFloats = VEC / 4;
typedef Float Floats __attribute__((vector_size(kFloats * sizeof(Float))));
typedef Int Ints __attribute__((vector_size(kFloats * sizeof(Float))));

KD_INLINE Floats load(const Float* from) {
  Floats value;
  __builtin_memcpy(&value, from, sizeof value);
  return value;
}
KD_INLINE void store(Float* to, Floats value) {
  __builtin_memcpy(to, &value, sizeof value);
}

KD_INLINE Float square_root(Float x) {
  if (sizeof x == 8) return (Float)__builtin_sqrt(x);
  return (Float)__builtin_sqrtf((float)x);
}
KD_INLINE Float magnitude(Float x) {
  if (sizeof x == 8) return (Float)__builtin_fabs(x);
  return (Float)__builtin_fabsf((float)x);
}

KD_INLINE Float sum_of(Floats x) {
  Float part[kFloats];
  __builtin_memcpy(part, &x, sizeof part);
  for (long step = kFloats / 2; step > 0; step /= 2)
    for (long i = 0; i < step; ++i) part[i] += part[i + step];
  return part[0];
}
