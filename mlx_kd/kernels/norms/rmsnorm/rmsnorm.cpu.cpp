// rmsnorm: y = w * rounded(x * rsqrt(mean(x^2) + eps)) by rows.
//
// inputs x (rows, D), w (D); outputs y (rows, D); dims rows, D; params eps; a unit is a row.
// Includes no header, so that it compiles in a tenth of a second.
#ifndef KD_DTYPE
#define KD_DTYPE 0  // 0 float32, 1 float16, 2 bfloat16
#endif
#ifndef VEC
#define VEC 16  // bytes of a vector of floats
#endif
#ifndef BF16
#define BF16 0  // bfloat16 is rounded by integer arithmetic (0) or by AVX512_BF16 (1)
#endif
#ifndef ACC
#define ACC 4  // steps summed independently
#endif
#ifndef UNROLL
#define UNROLL 4  // steps a turn of the scaling loop
#endif
#ifndef ROWS
#define ROWS 1  // rows that share one reading of w
#endif
#ifndef STREAM
#define STREAM 0  // 1: y bypasses the caches
#endif
#ifndef PREFETCH
#define PREFETCH 0  // bytes ahead of the summing loop
#endif
#ifndef AHEAD
#define AHEAD 0  // 1: the scaling loop fetches the rows that come next
#endif
#ifndef RSQRT
#define RSQRT 0  // 0: 1 / sqrt; 1: the processor's estimate and a Newton step
#endif

#include "../../common/steps.cpu.h"
#include "../rows.cpu.h"

template <int R>
KD_INLINE void add_squares(Floats (&sums)[R], const Step (&steps)[R]) {
  KD_UNROLL
  for (int r = 0; r < R; ++r) {
    KD_UNROLL
    for (int p = 0; p < kParts; ++p) sums[r] += product(steps[r].part[p], steps[r].part[p]);
  }
}

template <int R>
KD_INLINE void load_rows(Step (&steps)[R], const T* x, long d) {
  KD_UNROLL
  for (int r = 0; r < R; ++r) steps[r] = load(x + r * d);
}

// sums[r] = sum of x[r][j]^2; its order depends on D alone.
template <int R>
KD_INLINE void sum_squares(const T* __restrict x, long d, float (&sums)[R]) {
  Floats parts[ACC][R] = {};
  Step steps[R];
  long j = 0;
  for (; j + ACC * kStep <= d; j += ACC * kStep) {
    if constexpr (PREFETCH > 0) {
      KD_UNROLL
      for (int r = 0; r < R; ++r) fetch_lines<ACC * kStepBytes>(x + r * d + j, PREFETCH);
    }
    KD_UNROLL
    for (int k = 0; k < ACC; ++k) {
      load_rows(steps, x + j + k * kStep, d);
      add_squares(parts[k], steps);
    }
  }
  for (; j + kStep <= d; j += kStep) {
    load_rows(steps, x + j, d);
    add_squares(parts[0], steps);
  }
  if (j < d) {
    for (int r = 0; r < R; ++r) steps[r] = load_some(x + r * d + j, d - j);
    add_squares(parts[0], steps);
  }
  KD_UNROLL
  for (int r = 0; r < R; ++r) {
    KD_UNROLL
    for (int k = 1; k < ACC; ++k) parts[0][r] += parts[k][r];
    sums[r] = total(parts[0][r]);
  }
}

KD_INLINE Step scaled(Step x, Step w, float scale) {
  KD_UNROLL
  for (int p = 0; p < kParts; ++p) x.part[p] *= scale;
  x = rounded(x);
  KD_UNROLL
  for (int p = 0; p < kParts; ++p) x.part[p] *= w.part[p];
  return x;
}

template <int R>
KD_INLINE void scale_step(const T* x, const T* w, T* y, long d, const float (&scales)[R]) {
  const Step weights = load(w);
  KD_UNROLL
  for (int r = 0; r < R; ++r) put<STREAM>(y + r * d, scaled(load(x + r * d), weights, scales[r]));
}

template <int R>
KD_INLINE void scale_some(const T* x, const T* w, T* y, long d, const float (&scales)[R],
                          long count) {
  const Step weights = load_some(w, count);
  for (int r = 0; r < R; ++r)
    store_some(y + r * d, scaled(load_some(x + r * d, count), weights, scales[r]), count);
}

template <int R>
static __attribute__((noinline)) void norm_rows(const T* __restrict x, const T* __restrict w,
                                                T* __restrict y, long d, float eps) {
  float scales[R];
  sum_squares<R>(x, d, scales);
  KD_UNROLL
  for (int r = 0; r < R; ++r) scales[r] = scale_of(scales[r], d, eps);
  long j = STREAM ? head_of(y, d) : 0;
  if (j > 0) scale_some<R>(x, w, y, d, scales, j);
  for (; j + UNROLL * kStep <= d; j += UNROLL * kStep) {
    if constexpr (AHEAD > 0) {
      KD_UNROLL
      for (int r = 0; r < R; ++r) fetch_lines<UNROLL * kStepBytes>(x + (R + r) * d + j, 0);
    }
    KD_UNROLL
    for (int k = 0; k < UNROLL; ++k)
      scale_step<R>(x + j + k * kStep, w + j + k * kStep, y + j + k * kStep, d, scales);
  }
  for (; j + kStep <= d; j += kStep) scale_step<R>(x + j, w + j, y + j, d, scales);
  if (j < d) scale_some<R>(x + j, w + j, y + j, d, scales, d - j);
}

extern "C" void mlx_kd_rmsnorm(const void* const* inputs, void* const* outputs, const long* dims,
                               const double* params, long begin, long end) {
  const T* x = (const T*)inputs[0];
  const T* w = (const T*)inputs[1];
  T* y = (T*)outputs[0];
  const long d = dims[1];
  const float eps = float(params[0]);
  // Rows streamed together must be aligned alike.
  const bool together = !STREAM || d * long(sizeof(T)) % kStepBytes == 0;
  long row = begin;
  if (ROWS > 1 && together)
    for (; row + ROWS <= end; row += ROWS) norm_rows<ROWS>(x + row * d, w, y + row * d, d, eps);
  for (; row < end; ++row) norm_rows<1>(x + row * d, w, y + row * d, d, eps);
  finish_streams();
}
