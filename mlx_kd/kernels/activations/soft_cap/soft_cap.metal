// y = cap * tanh(x / cap), element by element.
//
// A thread takes UNROLL packs of VEC elements; SPREAD says which. The last pack may be short: it is
// read element by element.
//
// Grid: at least ceil(N / (VEC * UNROLL)) threads in x, in threadgroups of any size.
// The host names of thread positions and ports are those of metal_kernel, so that the body of the
// function is one for it; docs/metal.md says what that takes.
#include <metal_stdlib>
using namespace metal;

#ifndef KD_DTYPE
#define KD_DTYPE 1  // of the arrays: 0 float, 1 half, 2 bfloat
#endif
#ifndef KD_ALIGNED
#define KD_ALIGNED 1  // 0: arrays start anywhere, 1: at a multiple of 16 bytes
#endif
#ifndef VEC
#define VEC 4  // elements of a pack: 1, 2, 4, 8
#endif
#ifndef UNROLL
#define UNROLL 1  // packs of a thread
#endif
#ifndef SPREAD
#define SPREAD 0  // packs of a thread lie 0: a threadgroup apart, 1: a grid apart, 2: side by side
#endif
#ifndef STAGED
#define STAGED 0  // 1: all packs are read before the first is computed
#endif
#ifndef FAST
#define FAST 0  // 1: fast::tanh and fast::divide
#endif

#include "../../common/packs.metal.h"
// A fast tanh may overflow inside where it is 1 already.
#if FAST
#define TANH(x) fast::tanh(clamp(fast::divide(float(x), cap), -10.0f, 10.0f))
#else
#define TANH(x) precise::tanh(precise::divide(float(x), cap))
#endif
#define CAPPED(x) T(cap * TANH(x))
#if SPREAD == 0
#define PACK(k) first + (k) * threads_per_threadgroup.x
#elif SPREAD == 1
#define PACK(k) first + (k) * threads_per_grid.x
#else
#define PACK(k) first + (k)
#endif

[[kernel]] void mlx_kd_soft_cap(
    const device T* inp [[buffer(0)]],
    device T* out [[buffer(1)]],
    constant float& cap [[buffer(2)]],
    constant int64_t& N [[buffer(3)]],
#if SPREAD == 0
    uint3 threadgroup_position_in_grid [[threadgroup_position_in_grid]],
    uint3 threads_per_threadgroup [[threads_per_threadgroup]],
    uint3 dispatch_threads_per_threadgroup [[dispatch_threads_per_threadgroup]],
    uint thread_index_in_threadgroup [[thread_index_in_threadgroup]]) {
#elif SPREAD == 1
    uint3 threads_per_grid [[threads_per_grid]],
    uint3 thread_position_in_grid [[thread_position_in_grid]]) {
#else
    uint3 thread_position_in_grid [[thread_position_in_grid]]) {
#endif
  struct alignas(PACK_BYTES) Pack {
    T at[VEC];
  };
  const device Pack* inps = reinterpret_cast<const device Pack*>(inp);
  device Pack* outs = reinterpret_cast<device Pack*>(out);
  const ulong packs = ulong(N) / VEC;
#if SPREAD == 0
  const ulong first = ulong(threadgroup_position_in_grid.x) * dispatch_threads_per_threadgroup.x *
                          UNROLL + thread_index_in_threadgroup;
#elif SPREAD == 1
  const ulong first = thread_position_in_grid.x;
#else
  const ulong first = ulong(thread_position_in_grid.x) * UNROLL;
#endif

#if STAGED
  Pack x[UNROLL];
#pragma unroll
  for (uint k = 0; k < UNROLL; ++k) {
    const ulong i = PACK(k);
    if (i < packs) x[k] = inps[i];
  }
#endif
#pragma unroll
  for (uint k = 0; k < UNROLL; ++k) {
    const ulong i = PACK(k);
    if (i < packs) {
#if STAGED
      const Pack a = x[k];
#else
      const Pack a = inps[i];
#endif
      Pack made;
#pragma unroll
      for (uint v = 0; v < VEC; ++v) made.at[v] = CAPPED(a.at[v]);
      outs[i] = made;
    } else if (i == packs) {
      for (ulong j = i * VEC; j < ulong(N); ++j) out[j] = CAPPED(inp[j]);
    }
  }
}
