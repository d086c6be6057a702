// y = (x - mean) * rsqrt(variance + eps) * w + b, row by row.
//
// A threadgroup takes a row of D elements. It is read three times: for its mean, for the squares of
// what is left, and to be scaled.
//
// Grid: rows * THREADS threads in x, threadgroup: THREADS.
// The host names of thread positions and ports are those of metal_kernel.
#include <metal_stdlib>
using namespace metal;

#ifndef KD_DTYPE
#define KD_DTYPE 1  // of the arrays: 0 float, 1 half, 2 bfloat
#endif
#ifndef KD_ALIGNED
#define KD_ALIGNED 1  // 0: arrays start anywhere, 1: at a multiple of 16 bytes
#endif
#ifndef THREADS
#define THREADS 256  // of a row: a multiple of 32
#endif
#ifndef FAST
#define FAST 0  // 1: fast::rsqrt
#endif

#define VEC 1
#include "../../common/packs.metal.h"
#define SIMDS (THREADS / 32)

[[max_total_threads_per_threadgroup(THREADS)]] [[kernel]] void mlx_kd_layernorm(
    const device T* inp [[buffer(0)]],
    const device T* weight [[buffer(1)]],
    const device T* bias [[buffer(2)]],
    device T* out [[buffer(3)]],
    constant float& eps [[buffer(4)]],
    constant int& D [[buffer(5)]],
    constant int& has_weight [[buffer(6)]],
    constant int& has_bias [[buffer(7)]],
    uint3 threadgroup_position_in_grid [[threadgroup_position_in_grid]],
    uint thread_index_in_threadgroup [[thread_index_in_threadgroup]],
    uint thread_index_in_simdgroup [[thread_index_in_simdgroup]],
    uint simdgroup_index_in_threadgroup [[simdgroup_index_in_threadgroup]]) {
  threadgroup float sums[SIMDS];
  threadgroup float squares[SIMDS];
  const ulong first = ulong(threadgroup_position_in_grid.x) * uint(D);
  const device T* x = inp + first;
  device T* y = out + first;

  float sum = 0.0f;
  for (uint i = thread_index_in_threadgroup; i < uint(D); i += THREADS) sum += float(x[i]);
  sum = simd_sum(sum);
  if (thread_index_in_simdgroup == 0) sums[simdgroup_index_in_threadgroup] = sum;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  sum = 0.0f;
  for (uint s = 0; s < SIMDS; ++s) sum += sums[s];
  const float mean = sum / float(D);

  float square = 0.0f;
  for (uint i = thread_index_in_threadgroup; i < uint(D); i += THREADS)
    square += (float(x[i]) - mean) * (float(x[i]) - mean);
  square = simd_sum(square);
  if (thread_index_in_simdgroup == 0) squares[simdgroup_index_in_threadgroup] = square;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  square = 0.0f;
  for (uint s = 0; s < SIMDS; ++s) square += squares[s];
#if FAST
  const float scale = fast::rsqrt(square / float(D) + eps);
#else
  const float scale = precise::rsqrt(square / float(D) + eps);
#endif

  for (uint i = thread_index_in_threadgroup; i < uint(D); i += THREADS) {
    float made = (float(x[i]) - mean) * scale;
    if (has_weight != 0) made *= float(weight[i]);
    if (has_bias != 0) made += float(bias[i]);
    y[i] = T(made);
  }
}
