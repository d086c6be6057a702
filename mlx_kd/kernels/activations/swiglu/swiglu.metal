// y = gate * sigmoid(gate) * up, element by element.
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
#ifndef FORM
#define FORM 0  // 0: gate / (1 + e), 1: gate * (1 / (1 + e))
#endif
#ifndef FAST
#define FAST 0  // 1: fast::exp and fast::divide
#endif

#include "../../common/packs.metal.h"
#if FAST
#define EXP fast::exp
#define DIVIDE fast::divide
#else
#define EXP precise::exp
#define DIVIDE precise::divide
#endif
#if FORM == 0
#define GATED(g, u) T(DIVIDE(float(g), 1.0f + EXP(-float(g))) * float(u))
#else
#define GATED(g, u) T(float(g) * DIVIDE(1.0f, 1.0f + EXP(-float(g))) * float(u))
#endif
#if SPREAD == 0
#define PACK(k) first + (k) * threads_per_threadgroup.x
#elif SPREAD == 1
#define PACK(k) first + (k) * threads_per_grid.x
#else
#define PACK(k) first + (k)
#endif

[[kernel]] void mlx_kd_swiglu(
    const device T* gate [[buffer(0)]],
    const device T* up [[buffer(1)]],
    device T* out [[buffer(2)]],
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
  const device Pack* gates = reinterpret_cast<const device Pack*>(gate);
  const device Pack* ups = reinterpret_cast<const device Pack*>(up);
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
  Pack g[UNROLL];
  Pack u[UNROLL];
#pragma unroll
  for (uint k = 0; k < UNROLL; ++k) {
    const ulong i = PACK(k);
    if (i < packs) {
      g[k] = gates[i];
      u[k] = ups[i];
    }
  }
#endif
#pragma unroll
  for (uint k = 0; k < UNROLL; ++k) {
    const ulong i = PACK(k);
    if (i < packs) {
#if STAGED
      const Pack a = g[k];
      const Pack b = u[k];
#else
      const Pack a = gates[i];
      const Pack b = ups[i];
#endif
      Pack made;
#pragma unroll
      for (uint v = 0; v < VEC; ++v) made.at[v] = GATED(a.at[v], b.at[v]);
      outs[i] = made;
    } else if (i == packs) {
      for (ulong j = i * VEC; j < ulong(N); ++j) out[j] = GATED(gate[j], up[j]);
    }
  }
}
