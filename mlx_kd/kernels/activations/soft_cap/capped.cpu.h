// What soft_cap and its gradient share: the argument of the exponential, and a quotient. Macros,
// besides those of steps.cpu.h: DIVIDE (0: division, 1: the processor's estimate of 1/x and a
// Newton step).
#ifndef DIVIDE
#define DIVIDE 0
#endif
#pragma once
constexpr long kUnit = 1024;  // elements

struct Cap {
  float cap;
  float rate;  // exp(times |x| / cap) = 2^(rate |x|)
  float end;   // larger |x| give what this one gives, to the last bit
};

// `exponent`: the largest |rate x| that matters. No number here is infinite or 0.
KD_INLINE Cap cap_of(double cap, double times, float exponent) {
  const double rate = times * 1.4426950408889634 / cap;
  const float kept = float(rate < 3e38 ? rate > 1e-37 ? rate : 1e-37 : 3e38);
  const double end = double(exponent) / double(kept);
  return {float(cap), kept, float(end < 3e38 ? end : 3e38)};
}

// NaN stays NaN.
KD_INLINE Floats at_most(Floats x, float limit) {
  return x > all(limit) ? all(limit) : x;
}

// number / divisor, of a divisor in [1, 2^64]; or NaN.
KD_INLINE Floats over(Floats number, Floats divisor) {
#if DIVIDE && defined(__AVX512F__) && VEC == 64
  const Floats r = __builtin_ia32_rcp14ps512_mask(divisor, divisor, (unsigned short)-1);
  return number * (r + r * (1.0f - divisor * r));
#elif DIVIDE && defined(__AVX__) && VEC == 32
  const Floats r = __builtin_ia32_rcpps256(divisor);
  return number * (r + r * (1.0f - divisor * r));
#elif DIVIDE && defined(__SSE__) && VEC == 16
  const Floats r = __builtin_ia32_rcpps(divisor);
  return number * (r + r * (1.0f - divisor * r));
#else
  return number / divisor;
#endif
}
