// swiglu: y = gate * sigmoid(gate) * up, element by element.
//
// inputs gate, up (rows, D); output y (rows, D); dims rows, D, N = rows * D; no params; a unit is a
// block of 1024 elements. Includes no header, so that it compiles in a tenth of a second.
#ifndef KD_DTYPE
#define KD_DTYPE 0  // 0 float32, 1 float16, 2 bfloat16
#endif
#ifndef VEC
#define VEC 16  // bytes of a vector of floats
#endif
#ifndef BF16
#define BF16 0  // bfloat16 is rounded by integer arithmetic (0) or by AVX512_BF16 (1)
#endif
#ifndef UNROLL
#define UNROLL 2  // steps a turn of the loop
#endif
#ifndef DEGREE
#define DEGREE 5  // of the polynomial for 2^f, |f| <= 1/2: 1.5 or 0.03 units of 2^-24
#endif
#ifndef ESTRIN
#define ESTRIN 0  // the polynomial as a chain (0) or as a tree (1)
#endif
#ifndef SPLIT
#define SPLIT 0  // 1: log2(e) in two parts, a more exact fraction
#endif
#ifndef SCALEF
#define SCALEF 0  // 2^n by integer arithmetic (0) or by AVX512 instructions (1)
#endif
#ifndef DIVIDE
#define DIVIDE 0  // division (0), or the processor's estimate of 1/x and a Newton step (1)
#endif
#ifndef STREAM
#define STREAM 0  // 1: y bypasses the caches
#endif
#ifndef PREFETCH
#define PREFETCH 0  // bytes ahead of the loop
#endif

#include "../../common/steps.cpu.h"

constexpr long kUnit = 1024;  // elements

KD_INLINE Floats all(float value) {
  return Floats{} + value;
}

KD_INLINE Floats least(Floats a, Floats b) {
  return a < b ? a : b;
}

// 2^f for |f| <= 1/2: least relative error with the constant term 1.
KD_INLINE Floats power(Floats f) {
#if DEGREE == 5 && ESTRIN
  const Floats f2 = f * f;
  const Floats low = f * 0x1.62e42ap-1f + 1.0f, middle = f * 0x1.c6b752p-5f + 0x1.ebf9bcp-3f;
  return (f2 * (f * 0x1.5bba14p-10f + 0x1.3cea88p-7f) + middle) * f2 + low;
#elif DEGREE == 5
  const Floats tail = (f * 0x1.5bba14p-10f + 0x1.3cea88p-7f) * f + 0x1.c6b752p-5f;
  return ((tail * f + 0x1.ebf9bcp-3f) * f + 0x1.62e42ap-1f) * f + 1.0f;
#elif ESTRIN
  const Floats f2 = f * f;
  const Floats low = f * 0x1.62e430p-1f + 1.0f, middle = f * 0x1.c6aee8p-5f + 0x1.ebfbdcp-3f;
  const Floats high = f * 0x1.5f3e54p-10f + 0x1.3b2d4cp-7f;
  return ((f2 * 0x1.41fbbcp-13f + high) * f2 + middle) * f2 + low;
#else
  const Floats tail = (f * 0x1.41fbbcp-13f + 0x1.5f3e54p-10f) * f + 0x1.3b2d4cp-7f;
  return (((tail * f + 0x1.c6aee8p-5f) * f + 0x1.ebfbdcp-3f) * f + 0x1.62e430p-1f) * f + 1.0f;
#endif
}

KD_INLINE Floats fraction(Floats x, Floats n) {
#if SPLIT
  return x * 0x1.4ae0cp-26f + (x * 0x1.715476p0f - n);
#else
  return x * 0x1.715476p0f - n;
#endif
}

// 1 + exp(x); infinite where exp(x) exceeds the range, and for NaN.
KD_INLINE Floats one_plus_exp(Floats x) {
  x = least(x, all(89.0f));
  x = x > all(-80.0f) ? x : all(-80.0f);
#if SCALEF && defined(__AVX512F__) && VEC == 64
  const Floats t = x * 0x1.715476p0f;
  const Floats n = __builtin_ia32_rndscaleps_mask(t, 0, t, (unsigned short)-1, 4);
  const Floats p = power(fraction(x, n));
  return __builtin_ia32_scalefps512_mask(p, n, n, (unsigned short)-1, 4) + 1.0f;
#elif SCALEF && defined(__AVX512VL__) && VEC == 32
  const Floats n = __builtin_ia32_roundps256(x * 0x1.715476p0f, 0);
  return __builtin_ia32_scalefps256_mask(power(fraction(x, n)), n, n, (unsigned char)-1) + 1.0f;
#elif SCALEF && defined(__AVX512VL__) && VEC == 16
  const Floats n = __builtin_ia32_roundps(x * 0x1.715476p0f, 0);
  return __builtin_ia32_scalefps128_mask(power(fraction(x, n)), n, n, (unsigned char)-1) + 1.0f;
#else
  // Adding 1.5 2^23 - 1 leaves n - 1 in the low bits: half of 2^n is finite for every x above.
  constexpr float kShift = 0x1.8p23f - 1.0f;
  const Floats shifted = x * 0x1.715476p0f + kShift;
  const Floats p = power(fraction(x, shifted - kShift));
  return (Floats)((Uints)p + ((Uints)shifted << 23)) * 2.0f + 1.0f;
#endif
}

// 1/infinity is 0; there the Newton step would make NaN of it.
[[maybe_unused]] KD_INLINE Floats newton(Floats r, Floats divisor) {
  return r + r * least(1.0f - divisor * r, all(1.0f));
}

KD_INLINE Floats over(Floats number, Floats divisor) {
#if DIVIDE && defined(__AVX512F__) && VEC == 64
  const Floats r = __builtin_ia32_rcp14ps512_mask(divisor, divisor, (unsigned short)-1);
  return number * newton(r, divisor);
#elif DIVIDE && defined(__AVX__) && VEC == 32
  const Floats r = __builtin_ia32_rcpps256(divisor);
  return number * newton(r, divisor);
#elif DIVIDE && defined(__SSE__) && VEC == 16
  const Floats r = __builtin_ia32_rcpps(divisor);
  return number * newton(r, divisor);
#else
  return number / divisor;
#endif
}

KD_INLINE Step gated(Step gate, Step up) {
  KD_UNROLL
  for (int p = 0; p < kParts; ++p) {
    const Floats g = gate.part[p];
    up.part[p] = over(g, one_plus_exp(-g)) * up.part[p];
  }
  return up;
}

KD_INLINE void gate_some(const T* gate, const T* up, T* y, long count) {
  store_some(y, gated(load_some(gate, count), load_some(up, count)), count);
}

static void gate_span(const T* __restrict gate, const T* __restrict up, T* __restrict y, long n) {
  long j = STREAM ? head_of(y, n) : 0;
  if (j > 0) gate_some(gate, up, y, j);
  for (; j + UNROLL * kStep <= n; j += UNROLL * kStep) {
    if constexpr (PREFETCH > 0) {
      fetch_lines<UNROLL * kStepBytes>(gate + j, PREFETCH);
      fetch_lines<UNROLL * kStepBytes>(up + j, PREFETCH);
    }
    Step steps[UNROLL];
    KD_UNROLL
    for (int k = 0; k < UNROLL; ++k)
      steps[k] = gated(load(gate + j + k * kStep), load(up + j + k * kStep));
    KD_UNROLL
    for (int k = 0; k < UNROLL; ++k) put<STREAM>(y + j + k * kStep, steps[k]);
  }
  for (; j + kStep <= n; j += kStep) put<STREAM>(y + j, gated(load(gate + j), load(up + j)));
  if (j < n) gate_some(gate + j, up + j, y + j, n - j);
}

extern "C" void mlx_kd_swiglu(const void* const* inputs, void* const* outputs, const long* dims,
                              const double*, long begin, long end) {
  const long from = begin * kUnit, to = end * kUnit < dims[2] ? end * kUnit : dims[2];
  if (from < to)
    gate_span((const T*)inputs[0] + from, (const T*)inputs[1] + from, (T*)outputs[0] + from,
              to - from);
  finish_streams();
}
