// soft_cap_vjp: dx = dy (1 - tanh(x / cap)^2), element by element.
//
// inputs x, dy (rows, D); output dx (rows, D); dims rows, D, N = rows * D; params: cap; a unit is a
// block of 1024 elements. Includes no header, so that it compiles in a tenth of a second.
//
// With e = exp(-2 |x| / cap) it is dy 4 e / (1 + e)^2: nothing cancels.
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
#define UNROLL 4  // steps a turn of the loop
#endif
#ifndef DEGREE
#define DEGREE 5  // of the polynomial for (2^f - 1) / f
#endif
#ifndef ESTRIN
#define ESTRIN 0  // the polynomial as a chain (0) or as a tree (1)
#endif
#ifndef DIVIDE
#define DIVIDE 0  // division (0), or the processor's estimate of 1/x and a Newton step (1)
#endif
#ifndef STREAM
#define STREAM 0  // 1: dx bypasses the caches
#endif
#ifndef PREFETCH
#define PREFETCH 0  // bytes ahead of the loop
#endif

#include "../../common/exp2.cpu.h"
#include "../../common/steps.cpu.h"
#include "capped.cpu.h"

KD_INLINE Step slopes(Step x, Step dy, Cap by) {
  KD_UNROLL
  for (int p = 0; p < kParts; ++p) {
    const Floats size = (Floats)((Uints)x.part[p] & 0x7fffffffu);
    const Power power = power_of_two(at_most(size, by.end), -by.rate);
    const Floats e = power.scale + power.scale * power.more, sum = 1.0f + e;
    dy.part[p] *= over(4.0f * e, sum * sum);
  }
  return dy;
}

KD_INLINE void slope_some(const T* x, const T* dy, T* dx, long count, Cap by) {
  store_some(dx, slopes(load_some(x, count), load_some(dy, count), by), count);
}

static void slope_span(const T* __restrict x, const T* __restrict dy, T* __restrict dx, long n,
                       Cap by) {
  long j = STREAM ? head_of(dx, n) : 0;
  if (j > 0) slope_some(x, dy, dx, j, by);
  for (; j + UNROLL * kStep <= n; j += UNROLL * kStep) {
    if constexpr (PREFETCH > 0) {
      fetch_lines<UNROLL * kStepBytes>(x + j, PREFETCH);
      fetch_lines<UNROLL * kStepBytes>(dy + j, PREFETCH);
    }
    Step steps[UNROLL];
    KD_UNROLL
    for (int k = 0; k < UNROLL; ++k)
      steps[k] = slopes(load(x + j + k * kStep), load(dy + j + k * kStep), by);
    KD_UNROLL
    for (int k = 0; k < UNROLL; ++k) put<STREAM>(dx + j + k * kStep, steps[k]);
  }
  for (; j + kStep <= n; j += kStep) put<STREAM>(dx + j, slopes(load(x + j), load(dy + j), by));
  if (j < n) slope_some(x + j, dy + j, dx + j, n - j, by);
}

extern "C" void mlx_kd_soft_cap_vjp(const void* const* inputs, void* const* outputs,
                                    const long* dims, const double* params, long begin, long end) {
  const long from = begin * kUnit, to = end * kUnit < dims[2] ? end * kUnit : dims[2];
  if (from < to)
    slope_span((const T*)inputs[0] + from, (const T*)inputs[1] + from, (T*)outputs[0] + from,
               to - from, cap_of(params[0], 2.0, 127.25f));
  finish_streams();
}
