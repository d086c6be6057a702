// clang-format off
// Elements of the three types in CUDA, without its headers: 16 bits are kept as they are.
#pragma once
#ifndef KD_DTYPE
#define KD_DTYPE 2  // of the arrays: 0 float32, 1 float16, 2 bfloat16
#endif

#if KD_DTYPE == 0
typedef float T;
#else
typedef unsigned short T;
#endif

static __device__ float widen(T x) {
#if KD_DTYPE == 0
  return x;
#elif KD_DTYPE == 1
  float wide;
  asm("cvt.f32.f16 %0, %1;" : "=f"(wide) : "h"(x));
  return wide;
#else
  return __uint_as_float((unsigned)x << 16);
#endif
}

static __device__ T narrow(float x) {
#if KD_DTYPE == 0
  return x;
#else
  T stored;
#if KD_DTYPE == 1
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(stored) : "f"(x));
#else
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(stored) : "f"(x));
#endif
  return stored;
#endif
}
