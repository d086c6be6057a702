// soft_cap: y = cap * tanh(x / cap), element by element.
//
// input x (rows, D); output y (rows, D); dims rows, D, N = rows * D; params: cap; a unit is a block
// of 1024 elements. Includes no header, so that it compiles in a tenth of a second.
//
// With E = exp(2 |x| / cap) - 1 it is sign(x) cap E / (E + 2): nothing cancels, so that the error
// is relative to y for small x too.
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
#define STREAM 0  // 1: y bypasses the caches
#endif
#ifndef PREFETCH
#define PREFETCH 0  // bytes ahead of the loop
#endif

#include "../../common/exp2.cpu.h"
#include "../../common/steps.cpu.h"
#include "capped.cpu.h"

KD_INLINE Step capped(Step x, Cap by) {
  KD_UNROLL
  for (int p = 0; p < kParts; ++p) {
    const Uints bits = (Uints)x.part[p], sign = bits & 0x80000000u;
    const Power e = power_of_two(at_most((Floats)(bits ^ sign), by.end), by.rate);
    const Floats less_one = e.scale * e.more + (e.scale - 1.0f);
    x.part[p] = over(less_one, less_one + 2.0f) * (Floats)((Uints)all(by.cap) | sign);
  }
  return x;
}

static void cap_span(const T* __restrict x, T* __restrict y, long n, Cap by) {
  long j = STREAM ? head_of(y, n) : 0;
  if (j > 0) store_some(y, capped(load_some(x, j), by), j);
  for (; j + UNROLL * kStep <= n; j += UNROLL * kStep) {
    if constexpr (PREFETCH > 0) fetch_lines<UNROLL * kStepBytes>(x + j, PREFETCH);
    Step steps[UNROLL];
    KD_UNROLL
    for (int k = 0; k < UNROLL; ++k) steps[k] = capped(load(x + j + k * kStep), by);
    KD_UNROLL
    for (int k = 0; k < UNROLL; ++k) put<STREAM>(y + j + k * kStep, steps[k]);
  }
  for (; j + kStep <= n; j += kStep) put<STREAM>(y + j, capped(load(x + j), by));
  if (j < n) store_some(y + j, capped(load_some(x + j, n - j), by), n - j);
}

extern "C" void mlx_kd_soft_cap(const void* const* inputs, void* const* outputs, const long* dims,
                                const double* params, long begin, long end) {
  const long from = begin * kUnit, to = end * kUnit < dims[2] ? end * kUnit : dims[2];
  if (from < to)
    cap_span((const T*)inputs[0] + from, (T*)outputs[0] + from, to - from,
             cap_of(params[0], 2.0, 30.0f));
  finish_streams();
}
