// Vectors of floats and of elements of T that are in the same order. Macros: those of steps.cpu.h.
#pragma once
#include "../../common/steps.cpu.h"
// A vector of floats and as many elements of T, in the same order.
constexpr long kLanes = VEC / long(sizeof(float));
typedef T Elements __attribute__((vector_size(kLanes * sizeof(T))));
typedef unsigned char Bytes __attribute__((vector_size(kLanes)));

KD_INLINE Floats float_lanes(Elements x) {
#if KD_DTYPE == 2
  return (Floats)(__builtin_convertvector(x, Uints) << 16);
#else
  return widen(x).part[0];
#endif
}

KD_INLINE Elements element_lanes(Floats x) {
#if KD_DTYPE == 2
  const Uints bits = (Uints)x;
  return __builtin_convertvector((bits + 0x7fff + (bits >> 16 & 1)) >> 16, Elements);
#else
  return narrow({{x}});
#endif
}

KD_INLINE float element(const T* from) {
#if KD_DTYPE == 0
  return *from;
#elif KD_DTYPE == 1
  return load_some(from, 1).part[0][0];
#else
  return __builtin_bit_cast(float, unsigned(*from) << 16);
#endif
}

KD_INLINE Floats rounded_lanes(Floats x) {
  return float_lanes(element_lanes(x));
}

template <class Vector, class From>
KD_INLINE Vector take(const From* from) {
  Vector result;
  __builtin_memcpy(&result, from, sizeof result);
  return result;
}

// The first elements, and zeros.
template <class Vector, class From>
KD_INLINE Vector take_some(const From* from, long count) {
  Vector result = {};
  __builtin_memcpy(&result, from, count * sizeof(From));
  return result;
}

KD_INLINE float lanes_total(Floats x) {
  for (long half = kLanes / 2; half > 0; half /= 2)
    for (long i = 0; i < half; ++i) x[i] += x[i + half];
  return x[0];
}

KD_INLINE Floats choose(Uints mask, Floats yes, Floats no) {
  return (Floats)((mask & (Uints)yes) | (~mask & (Uints)no));
}
