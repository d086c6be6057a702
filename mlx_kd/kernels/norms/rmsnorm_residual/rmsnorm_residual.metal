// updated = rounded(x + residual); y = w * rounded(updated * rsqrt(mean(updated^2) + eps)), row by
// row.
//
// A threadgroup takes ROWS rows of D elements, THREADS threads each. A thread reads packs of VEC
// elements, THREADS packs apart, so that a simdgroup reads one stretch of memory; it can keep the
// first KEEP packs of sums until the scale is known. Rows whose length is no multiple of VEC are
// read element by element.
//
// Grid: ceil(rows / ROWS) * ROWS * THREADS threads in x, threadgroup: ROWS * THREADS.
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
#ifndef THREADS
#define THREADS 256  // of a row: a multiple of 32; a power of two where REDUCE is 2
#endif
#ifndef ROWS
#define ROWS 1  // of a threadgroup
#endif
#ifndef REDUCE
#define REDUCE 0  // 0: simd_sum, then every thread adds; 1: simd_sum twice; 2: a tree
#endif
#ifndef CACHE
#define CACHE 0  // 0: sums are not kept; 1: packs kept in registers, 2: in threadgroup memory
#endif
#ifndef KEEP
#define KEEP 1  // packs that a thread keeps, where CACHE is not 0
#endif
#ifndef EARLY
#define EARLY 0  // 1: weights of kept packs are fetched before the sum is known (CACHE 1)
#endif
#ifndef UNROLL
#define UNROLL 1  // packs read at once, where CACHE is 0
#endif
#ifndef AGAIN
#define AGAIN 0  // 1: sums that are not kept are added again, 0: read back
#endif
#ifndef FAST
#define FAST 0  // 1: fast::rsqrt
#endif

#include "../../common/packs.metal.h"
#if CACHE == 2
#define KEPT(k) kept[(k) * ROWS * THREADS]
#else
#define KEPT(k) kept[k]
#endif

[[max_total_threads_per_threadgroup(ROWS * THREADS)]] [[kernel]] void mlx_kd_rmsnorm_residual(
    const device T* inp [[buffer(0)]],
    const device T* residual [[buffer(1)]],
    const device T* weight [[buffer(2)]],
    device T* out [[buffer(3)]],
    device T* updated_res [[buffer(4)]],
    constant float& eps [[buffer(5)]],
    constant int& rows [[buffer(6)]],
    constant int& D [[buffer(7)]],
    uint3 threadgroup_position_in_grid [[threadgroup_position_in_grid]],
    uint thread_index_in_threadgroup [[thread_index_in_threadgroup]],
    uint thread_index_in_simdgroup [[thread_index_in_simdgroup]],
    uint simdgroup_index_in_threadgroup [[simdgroup_index_in_threadgroup]]) {
  struct alignas(PACK_BYTES) Pack {
    T at[VEC];
  };
  const uint lane = thread_index_in_threadgroup % THREADS;
  const uint slot = thread_index_in_threadgroup / THREADS;
  const uint row = threadgroup_position_in_grid.x * ROWS + slot;
  const uint length = uint(row < uint(rows)) * uint(D);
  const uint packs = uint(length % VEC == 0) * (length / VEC);
  const uint rest = packs * VEC;  // where elements are read one by one
  const device T* x = inp + ulong(row) * uint(D);
  const device T* r = residual + ulong(row) * uint(D);
  device T* y = out + ulong(row) * uint(D);
  device T* s = updated_res + ulong(row) * uint(D);
  const device Pack* x_packs = reinterpret_cast<const device Pack*>(x);
  const device Pack* r_packs = reinterpret_cast<const device Pack*>(r);
  const device Pack* w_packs = reinterpret_cast<const device Pack*>(weight);
  device Pack* y_packs = reinterpret_cast<device Pack*>(y);
  device Pack* s_packs = reinterpret_cast<device Pack*>(s);

  float sum = 0.0f;
#if CACHE == 0
  for (uint i = lane; i < packs; i += THREADS * UNROLL) {
    Pack read[UNROLL];
    Pack added[UNROLL];
#pragma unroll
    for (uint u = 0; u < UNROLL; ++u)
      if (i + u * THREADS < packs) {
        read[u] = x_packs[i + u * THREADS];
        added[u] = r_packs[i + u * THREADS];
      }
#pragma unroll
    for (uint u = 0; u < UNROLL; ++u)
      if (i + u * THREADS < packs) {
#pragma unroll
        for (uint v = 0; v < VEC; ++v) {
          read[u].at[v] = T(float(read[u].at[v]) + float(added[u].at[v]));
          sum += float(read[u].at[v]) * float(read[u].at[v]);
        }
        s_packs[i + u * THREADS] = read[u];
      }
  }
#else
#if CACHE == 1
  Pack kept[KEEP];
#else
  threadgroup Pack shared_packs[KEEP * ROWS * THREADS];
  threadgroup Pack* kept = shared_packs + thread_index_in_threadgroup;
#endif
  Pack added[KEEP];
#pragma unroll
  for (uint k = 0; k < KEEP; ++k)
    if (lane + k * THREADS < packs) {
      KEPT(k) = x_packs[lane + k * THREADS];
      added[k] = r_packs[lane + k * THREADS];
    }
#if EARLY
  Pack w_kept[KEEP];
#pragma unroll
  for (uint k = 0; k < KEEP; ++k)
    if (lane + k * THREADS < packs) w_kept[k] = w_packs[lane + k * THREADS];
#endif
#pragma unroll
  for (uint k = 0; k < KEEP; ++k)
    if (lane + k * THREADS < packs) {
      Pack both = KEPT(k);
#pragma unroll
      for (uint v = 0; v < VEC; ++v) {
        both.at[v] = T(float(both.at[v]) + float(added[k].at[v]));
        sum += float(both.at[v]) * float(both.at[v]);
      }
      KEPT(k) = both;
      s_packs[lane + k * THREADS] = both;
    }
  for (uint i = lane + KEEP * THREADS; i < packs; i += THREADS) {
    Pack both = x_packs[i];
    const Pack other = r_packs[i];
#pragma unroll
    for (uint v = 0; v < VEC; ++v) {
      both.at[v] = T(float(both.at[v]) + float(other.at[v]));
      sum += float(both.at[v]) * float(both.at[v]);
    }
    s_packs[i] = both;
  }
#endif
  for (uint i = rest + lane; i < length; i += THREADS) {
    const T both = T(float(x[i]) + float(r[i]));
    sum += float(both) * float(both);
    s[i] = both;
  }

#include "../rows.metal.h"

#if CACHE == 0
  for (uint i = lane; i < packs; i += THREADS * UNROLL) {
    Pack read[UNROLL];
    Pack by[UNROLL];
#if AGAIN
    Pack added[UNROLL];
#endif
#pragma unroll
    for (uint u = 0; u < UNROLL; ++u)
      if (i + u * THREADS < packs) {
#if AGAIN
        read[u] = x_packs[i + u * THREADS];
        added[u] = r_packs[i + u * THREADS];
#else
        read[u] = s_packs[i + u * THREADS];
#endif
        by[u] = w_packs[i + u * THREADS];
      }
#pragma unroll
    for (uint u = 0; u < UNROLL; ++u)
      if (i + u * THREADS < packs) {
        Pack made;
#if AGAIN
#pragma unroll
        for (uint v = 0; v < VEC; ++v)
          read[u].at[v] = T(float(read[u].at[v]) + float(added[u].at[v]));
#endif
#pragma unroll
        for (uint v = 0; v < VEC; ++v)
          made.at[v] = T(float(by[u].at[v]) * float(T(float(read[u].at[v]) * scale)));
        y_packs[i + u * THREADS] = made;
      }
  }
#else
#pragma unroll
  for (uint k = 0; k < KEEP; ++k)
    if (lane + k * THREADS < packs) {
#if EARLY
      const Pack by = w_kept[k];
#else
      const Pack by = w_packs[lane + k * THREADS];
#endif
      Pack made;
#pragma unroll
      for (uint v = 0; v < VEC; ++v)
        made.at[v] = T(float(by.at[v]) * float(T(float(KEPT(k).at[v]) * scale)));
      y_packs[lane + k * THREADS] = made;
    }
  for (uint i = lane + KEEP * THREADS; i < packs; i += THREADS) {
    const Pack read = s_packs[i];
    const Pack by = w_packs[i];
    Pack made;
#pragma unroll
    for (uint v = 0; v < VEC; ++v)
      made.at[v] = T(float(by.at[v]) * float(T(float(read.at[v]) * scale)));
    y_packs[i] = made;
  }
#endif
  for (uint i = rest + lane; i < length; i += THREADS)
    y[i] = T(float(weight[i]) * float(T(float(s[i]) * scale)));
}
