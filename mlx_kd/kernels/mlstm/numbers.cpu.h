// The functions of gates, for the CPU kernels of mLSTM.
#pragma once

#include "../common/elements.cpu.h"

#define KD_APART [[maybe_unused]] static __attribute__((noinline))
#ifdef __clang__
#define KD_UNROLL _Pragma("clang loop unroll(full)")
#else
#define KD_UNROLL _Pragma("GCC unroll 32")
#endif

constexpr float kInfinity = __builtin_inff();
typedef unsigned Uints __attribute__((vector_size(VEC)));

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
KD_INLINE Floats slope_of_log_sigmoid(Floats x) {
  const Floats e = power(-magnitude(x));
  return (x > 0.0f ? e : Floats{} + 1.0f) / (1.0f + e);
}
