// What CPU kernels of norms share: the sum of a vector's elements, and the scale of a row from its
// sum of squares. Macros: those of steps.cpu.h, and RSQRT (1: the processor's estimate and a Newton
// step).
#ifndef RSQRT
#define RSQRT 0
#endif
#pragma once
#include "../common/steps.cpu.h"

KD_INLINE float total(Floats sum) {
#if VEC == 64
  sum += __builtin_shufflevector(sum, sum, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7);
  sum += __builtin_shufflevector(sum, sum, 4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11);
  sum += __builtin_shufflevector(sum, sum, 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13);
#elif VEC == 32
  sum += __builtin_shufflevector(sum, sum, 4, 5, 6, 7, 0, 1, 2, 3);
  sum += __builtin_shufflevector(sum, sum, 2, 3, 0, 1, 6, 7, 4, 5);
#else
  sum += __builtin_shufflevector(sum, sum, 2, 3, 0, 1);
#endif
  return sum[0] + sum[1];
}

// rsqrt(sum / d + eps). One copy for all block heights, so that a row has the same bits in each.
static __attribute__((noinline)) float scale_of(float sum, long d, float eps) {
  const float value = sum * float(1.0 / double(d)) + eps;
#if RSQRT && defined(__SSE__)
  typedef float Four __attribute__((vector_size(16)));
  const float estimate = __builtin_ia32_rsqrtss(Four{value, 0, 0, 0})[0];
  const float better = estimate * (1.5f - 0.5f * value * estimate * estimate);
  return value > 0x1.fffffep127f ? 0.0f : better;  // infinity times zero would be NaN
#else
  return 1.0f / __builtin_sqrtf(value);
#endif
}
