// Gated activations element by element, for CPU kernels: a quotient number / (1 + exp(-z)), and the
// loops over blocks of elements. Macros besides those of steps.cpu.h and exp2.cpu.h:
//
//   UNROLL    steps a turn of the loop
//   DIVIDE    0: division, 1: the processor's estimate of 1/x and a Newton step
//   PREFETCH  bytes ahead of the loop
#ifndef UNROLL
#define UNROLL 4
#endif
#ifndef DIVIDE
#define DIVIDE 0
#endif
#ifndef PREFETCH
#define PREFETCH 0
#endif
#pragma once
#include "../common/exp2.cpu.h"
#include "../common/steps.cpu.h"
constexpr long kUnit = 1024;  // elements

// 1 + exp(-z): infinite where exp(-z) exceeds 2^127, NaN for NaN.
[[maybe_unused]] KD_INLINE Floats one_plus_exp(Floats z) {
  Floats x = z * -0x1.715476p0f;
  const Floats limit = all(127.0f);
  const auto beyond = x > limit;
  x = x < all(-127.0f) ? all(-127.0f) : x;
  x = beyond ? limit : x;
  const Power power = power_of_two(x, 1.0f);
  const Floats result = power.scale * power.more + power.scale + 1.0f;
  return beyond ? all(__builtin_inff()) : result;
}

// 1/infinity is 0; there the Newton step would make NaN of it.
[[maybe_unused]] KD_INLINE Floats newton(Floats r, Floats divisor) {
  const Floats rest = 1.0f - divisor * r;
  return r + r * (rest < all(1.0f) ? rest : all(1.0f));
}

// number / divisor, of a divisor of at least 1, or NaN.
[[maybe_unused]] KD_INLINE Floats over(Floats number, Floats divisor) {
#if DIVIDE && defined(__AVX512F__) && VEC == 64
  return number *
         newton(__builtin_ia32_rcp14ps512_mask(divisor, divisor, (unsigned short)-1), divisor);
#elif DIVIDE && defined(__AVX__) && VEC == 32
  return number * newton(__builtin_ia32_rcpps256(divisor), divisor);
#elif DIVIDE && defined(__SSE__) && VEC == 16
  return number * newton(__builtin_ia32_rcpps(divisor), divisor);
#else
  return number / divisor;
#endif
}

// z sigmoid(z) and the like: number / (1 + exp(-z)).
[[maybe_unused]] KD_INLINE Floats gated(Floats number, Floats z) {
  return over(number, one_plus_exp(z));
}

// y = made(a, b) of n elements; `made` takes and gives vectors of floats.
template <class Made>
[[maybe_unused]] KD_INLINE void map_two(const T* __restrict a, const T* __restrict b,
                                        T* __restrict y, long n, Made made) {
  const auto step = [&](Step x, Step z) __attribute__((always_inline)) {
    KD_UNROLL
    for (int p = 0; p < kParts; ++p) z.part[p] = made(x.part[p], z.part[p]);
    return z;
  };
  long j = STREAM ? head_of(y, n) : 0;
  if (j > 0) store_some(y, step(load_some(a, j), load_some(b, j)), j);
  for (; j + UNROLL * kStep <= n; j += UNROLL * kStep) {
    if constexpr (PREFETCH > 0) {
      fetch_lines<UNROLL * kStepBytes>(a + j, PREFETCH);
      fetch_lines<UNROLL * kStepBytes>(b + j, PREFETCH);
    }
    Step steps[UNROLL];
    KD_UNROLL
    for (int k = 0; k < UNROLL; ++k)
      steps[k] = step(load(a + j + k * kStep), load(b + j + k * kStep));
    KD_UNROLL
    for (int k = 0; k < UNROLL; ++k) put<STREAM>(y + j + k * kStep, steps[k]);
  }
  for (; j + kStep <= n; j += kStep) put<STREAM>(y + j, step(load(a + j), load(b + j)));
  if (j < n) store_some(y + j, step(load_some(a + j, n - j), load_some(b + j, n - j)), n - j);
}

// y = made(x).
template <class Made>
[[maybe_unused]] KD_INLINE void map_one(const T* __restrict x, T* __restrict y, long n, Made made) {
  const auto step = [&](Step z) __attribute__((always_inline)) {
    KD_UNROLL
    for (int p = 0; p < kParts; ++p) z.part[p] = made(z.part[p]);
    return z;
  };
  long j = STREAM ? head_of(y, n) : 0;
  if (j > 0) store_some(y, step(load_some(x, j)), j);
  for (; j + UNROLL * kStep <= n; j += UNROLL * kStep) {
    if constexpr (PREFETCH > 0) fetch_lines<UNROLL * kStepBytes>(x + j, PREFETCH);
    Step steps[UNROLL];
    KD_UNROLL
    for (int k = 0; k < UNROLL; ++k) steps[k] = step(load(x + j + k * kStep));
    KD_UNROLL
    for (int k = 0; k < UNROLL; ++k) put<STREAM>(y + j + k * kStep, steps[k]);
  }
  for (; j + kStep <= n; j += kStep) put<STREAM>(y + j, step(load(x + j)));
  if (j < n) store_some(y + j, step(load_some(x + j, n - j)), n - j);
}

struct Span {
  long from, count;
};
// The elements of units [begin, end), of n in all.
KD_INLINE Span span_of(long begin, long end, long n) {
  const long from = begin * kUnit, to = end * kUnit < n ? end * kUnit : n;
  return {from, to > from ? to - from : 0};
}
