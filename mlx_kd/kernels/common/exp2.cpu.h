// Powers of two of vectors of float, for CPU kernels. Macros:
//
//   DEGREE  4, 5: of the polynomial for (2^f - 1) / f, |f| <= 1/2: off by 7.8 or 0.4 times 2^-24
//   ESTRIN  0: the polynomial is a chain, 1: a tree
//
// 2^t = scale (1 + more), with |more| < 0.42: 1 is not yet added, so that 2^t - 1 can be found
// without cancellation.
#ifndef DEGREE
#define DEGREE 5
#endif
#ifndef ESTRIN
#define ESTRIN 0
#endif
#pragma once
#include "steps.cpu.h"
struct Power {
  Floats scale, more;
};

[[maybe_unused]] KD_INLINE Floats all(float value) {
  return Floats{} + value;
}

// (2^f - 1) / f for |f| <= 1/2: least relative error, by exchange.
KD_INLINE Floats slope(Floats f) {
#if DEGREE == 4 && ESTRIN
  const Floats low = f * 0x1.ebfa4ep-3f + 0x1.62e42ep-1f,
               high = f * 0x1.3cbe58p-7f + 0x1.c6b26ep-5f;
  return (f * f * 0x1.5d87dep-10f + high) * (f * f) + low;
#elif DEGREE == 4
  const Floats tail = (f * 0x1.5d87dep-10f + 0x1.3cbe58p-7f) * f + 0x1.c6b26ep-5f;
  return (tail * f + 0x1.ebfa4ep-3f) * f + 0x1.62e42ep-1f;
#elif ESTRIN
  const Floats low = f * 0x1.ebfbdep-3f + 0x1.62e430p-1f,
               high = f * 0x1.3b2ba0p-7f + 0x1.c6af6ep-5f;
  return ((f * 0x1.4308fap-13f + 0x1.5f07b4p-10f) * (f * f) + high) * (f * f) + low;
#else
  const Floats tail = (f * 0x1.4308fap-13f + 0x1.5f07b4p-10f) * f + 0x1.3b2ba0p-7f;
  return ((tail * f + 0x1.c6af6ep-5f) * f + 0x1.ebfbdep-3f) * f + 0x1.62e430p-1f;
#endif
}

// 2^(x by) for -127.4 <= x by <= 127.4, exactly 0 below -126.5; NaN for NaN.
KD_INLINE Power power_of_two(Floats x, float by) {
  // The sum's low bits are n + 127, the exponent field of 2^n with n = x by rounded to an integer.
  constexpr float kShift = 0x1.8p23f + 127.0f;
  const Floats shifted = x * by + kShift;
  const Floats f = x * by - (shifted - kShift);
  return {(Floats)((Uints)shifted << 23), f * slope(f)};
}
