// Elements, vectors of floats, and the functions of gates, for the CPU kernels of mLSTM. Macros:
//
//   KD_DTYPE  0 float32, 1 float16, 2 bfloat16       VEC   bytes of a vector of floats
#ifndef KD_DTYPE
#define KD_DTYPE 0
#endif
#ifndef VEC
#define VEC 16
#endif
#pragma once
#define KD_INLINE static inline __attribute__((always_inline))
#define KD_APART [[maybe_unused]] static __attribute__((noinline))
#ifdef __clang__
#define KD_UNROLL _Pragma("clang loop unroll(full)")
#else
#define KD_UNROLL _Pragma("GCC unroll 32")
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

constexpr int kLine = 16;  // floats of a cache line
constexpr int kFloats = VEC / 4;
constexpr float kInfinity = __builtin_inff();
typedef float Floats __attribute__((vector_size(VEC)));
typedef unsigned Uints __attribute__((vector_size(VEC)));
typedef int Ints __attribute__((vector_size(VEC)));

KD_INLINE Floats load(const float* from) {
  Floats value;
  __builtin_memcpy(&value, from, sizeof value);
  return value;
}
KD_INLINE void store(float* to, Floats value) {
  __builtin_memcpy(to, &value, sizeof value);
}
[[maybe_unused]] KD_INLINE float sum_of(Floats value) {
  float lanes[kFloats];
  __builtin_memcpy(lanes, &value, sizeof lanes);
  for (int half = kFloats / 2; half > 0; half /= 2)
    for (int i = 0; i < half; ++i) lanes[i] += lanes[i + half];
  return lanes[0];
}

// (2^f - 1) / f for |f| <= 1/2: least relative error, by exchange.
KD_INLINE Floats slope(Floats f) {
  const Floats tail = (f * 0x1.4308fap-13f + 0x1.5f07b4p-10f) * f + 0x1.3b2ba0p-7f;
  return ((tail * f + 0x1.c6af6ep-5f) * f + 0x1.ebfbdep-3f) * f + 0x1.62e430p-1f;
}
// e^x for x < 88; 0 below -87.3; NaN for NaN.
KD_INLINE Floats power(Floats x) {
  constexpr float kLog2E = 0x1.715476p+0f, kShift = 0x1.8p23f + 127.0f;
  constexpr float kLn2 = 0x1.62e4p-1f, kLn2Rest = 0x1.7f7d1cp-20f;  // n kLn2 is exact
  const Floats low = Floats{} - 87.3f, bounded = x < low ? low : x;
  const Floats shifted = bounded * kLog2E + kShift, n = shifted - kShift;
  const Floats f = ((bounded - n * kLn2) - n * kLn2Rest) * kLog2E;
  const Floats one = (Floats)((Uints)shifted << 23);
  const Floats made = one + one * (f * slope(f));
  return x < low ? Floats{} : made;
}
// Of any x.
KD_INLINE Floats any_power(Floats x) {
  const Floats high = Floats{} + 170.0f;
  const Floats half = power((x > high ? high : x) * 0.5f);
  return half * half;
}
KD_INLINE Floats magnitude(Floats x) {
  return (Floats)((Uints)x & 0x7fffffffu);
}
// log(sigmoid(x)) = min(x, 0) - log(1 + e), e = exp(-|x|); log(1 + e) = 2 artanh(e / (2 + e)).
KD_INLINE Floats log_sigmoid(Floats x) {
  const Floats e = power(-magnitude(x)), z = e / (2.0f + e), y = z * z;
  Floats sum = Floats{} + 1.0f / 17;
  KD_UNROLL
  for (int odd = 15; odd > 0; odd -= 2) sum = sum * y + 1.0f / float(odd);
  return (x > 0.0f ? Floats{} : x) - 2.0f * z * sum;
}
// sigmoid(-x), the slope of log(sigmoid(x)).
[[maybe_unused]] KD_INLINE Floats slope_of_log_sigmoid(Floats x) {
  const Floats e = power(-magnitude(x));
  return (x > 0.0f ? e : Floats{} + 1.0f) / (1.0f + e);
}
