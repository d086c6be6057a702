// The token of the largest log probability x - logsumexp(x) of each row of logits, and that log
// probability; both are rounded to the type as MLX rounds them, and the lowest index among equals wins.
//
// mlx_kd_greedy_token: a threadgroup takes a block of THREADS * KEEP * VEC logits of one row. Its
// threads keep them in registers; scratch0 and scratch1 (B * blocks) get the block's largest logit m
// and its sum of exp(x - m).
// mlx_kd_greedy_token_rows: a threadgroup takes a row. Rounding is monotonic, so the first block whose
// largest logit has the largest log probability holds the token: that block is read again.
// A row with NaN, or of -inf alone, gives token 0, a row with +inf its first +inf; logprob is NaN.
//
// Grids: B * blocks * THREADS threads in x; B * THREADS threads in x. Threadgroups: THREADS.
// The host names of thread positions and ports are those of metal_kernel.
#include <metal_stdlib>
using namespace metal;

#ifndef KD_DTYPE
#define KD_DTYPE 1  // of the logits: 0 float, 1 half, 2 bfloat
#endif
#ifndef KD_ALIGNED
#define KD_ALIGNED 1  // 0: arrays start anywhere, 1: at a multiple of 16 bytes
#endif
#ifndef VEC
#define VEC 4  // logits of a pack: 1, 2, 4, 8
#endif
#ifndef KEEP
#define KEEP 4  // packs that a thread keeps
#endif
#ifndef THREADS
#define THREADS 256  // of a threadgroup: a multiple of 32
#endif
#ifndef FAST
#define FAST 0  // 1: fast::exp
#endif

#include "../../common/packs.metal.h"
#define BLOCK (THREADS * KEEP * VEC)
#define SIMDS (THREADS / 32)
#if FAST
#define EXP fast::exp
#else
#define EXP precise::exp
#endif

// exp(x - most) where that is a number; else NaN for NaN, and 0.
static float share_of(float x, float most) {
  if (isinf(most)) return isnan(x) ? x : 0.0f;
  return EXP(x - most);
}

static float larger(float x, float than) {
  return x > than ? x : than;  // NaN in x is passed over
}

[[max_total_threads_per_threadgroup(THREADS)]] [[kernel]] void mlx_kd_greedy_token(
    const device T* logits [[buffer(0)]],
    device float* scratch0 [[buffer(1)]],
    device float* scratch1 [[buffer(2)]],
    constant int& V [[buffer(3)]],
    uint3 threadgroup_position_in_grid [[threadgroup_position_in_grid]],
    uint thread_index_in_threadgroup [[thread_index_in_threadgroup]],
    uint thread_index_in_simdgroup [[thread_index_in_simdgroup]],
    uint simdgroup_index_in_threadgroup [[simdgroup_index_in_threadgroup]]) {
  struct alignas(PACK_BYTES) Pack {
    T at[VEC];
  };
  threadgroup float maxima[SIMDS];
  threadgroup float sums[SIMDS];
  const uint unit = threadgroup_position_in_grid.x;
  const uint blocks = (uint(V) + BLOCK - 1) / BLOCK;
  const uint from = unit % blocks * BLOCK;
  const uint count = min(uint(V) - from, uint(BLOCK));
  const device T* x = logits + ulong(unit / blocks) * uint(V) + from;
  const device Pack* x_packs = reinterpret_cast<const device Pack*>(x);

  Pack kept[KEEP];
#pragma unroll
  for (uint k = 0; k < KEEP; ++k) {
    const uint pack = k * THREADS + thread_index_in_threadgroup;
    if (uint(V) % VEC == 0 && (pack + 1) * VEC <= count) {
      kept[k] = x_packs[pack];
    } else {
#pragma unroll
      for (uint v = 0; v < VEC; ++v)
        kept[k].at[v] = pack * VEC + v < count ? x[pack * VEC + v] : T(-INFINITY);
    }
  }
  float most = -INFINITY;
#pragma unroll
  for (uint k = 0; k < KEEP; ++k)
#pragma unroll
    for (uint v = 0; v < VEC; ++v) most = larger(float(kept[k].at[v]), most);
  most = simd_max(most);
  if (thread_index_in_simdgroup == 0) maxima[simdgroup_index_in_threadgroup] = most;
  threadgroup_barrier(mem_flags::mem_threadgroup);
#pragma unroll
  for (uint s = 0; s < SIMDS; ++s) most = larger(maxima[s], most);

  float sum = 0.0f;
#pragma unroll
  for (uint k = 0; k < KEEP; ++k)
#pragma unroll
    for (uint v = 0; v < VEC; ++v) sum += share_of(float(kept[k].at[v]), most);
  sum = simd_sum(sum);
  if (thread_index_in_simdgroup == 0) sums[simdgroup_index_in_threadgroup] = sum;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  if (thread_index_in_threadgroup == 0) {
    sum = 0.0f;
    for (uint s = 0; s < SIMDS; ++s) sum += sums[s];
    scratch0[unit] = most;
    scratch1[unit] = sum;
  }
}

[[max_total_threads_per_threadgroup(THREADS)]] [[kernel]] void mlx_kd_greedy_token_rows(
    const device T* logits [[buffer(0)]],
    device uint* token [[buffer(1)]],
    device T* logprob [[buffer(2)]],
    device float* scratch0 [[buffer(3)]],
    device float* scratch1 [[buffer(4)]],
    constant int& V [[buffer(5)]],
    uint3 threadgroup_position_in_grid [[threadgroup_position_in_grid]],
    uint thread_index_in_threadgroup [[thread_index_in_threadgroup]],
    uint thread_index_in_simdgroup [[thread_index_in_simdgroup]],
    uint simdgroup_index_in_threadgroup [[simdgroup_index_in_threadgroup]]) {
  threadgroup float maxima[SIMDS];
  threadgroup float sums[SIMDS];
  threadgroup uint first_blocks[SIMDS];
  threadgroup uint first_tokens[SIMDS];
  const uint row = threadgroup_position_in_grid.x;
  const uint blocks = (uint(V) + BLOCK - 1) / BLOCK;
  const device T* x = logits + ulong(row) * uint(V);
  const device float* largest = scratch0 + row * blocks;

  float most = -INFINITY;
  for (uint i = thread_index_in_threadgroup; i < blocks; i += THREADS)
    most = larger(largest[i], most);
  most = simd_max(most);
  if (thread_index_in_simdgroup == 0) maxima[simdgroup_index_in_threadgroup] = most;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  for (uint s = 0; s < SIMDS; ++s) most = larger(maxima[s], most);

  // NaN of a block is kept whatever its weight.
  float sum = 0.0f;
  for (uint i = thread_index_in_threadgroup; i < blocks; i += THREADS)
    sum += scratch1[row * blocks + i] * (isinf(most) ? 1.0f : EXP(largest[i] - most));
  sum = simd_sum(sum);
  if (thread_index_in_simdgroup == 0) sums[simdgroup_index_in_threadgroup] = sum;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  sum = 0.0f;
  for (uint s = 0; s < SIMDS; ++s) sum += sums[s];

  // The token is the first with T(x - minus) == wanted, if there is one.
  const bool has_token = !isnan(sum) && most > -INFINITY;
  const bool finite = has_token && !isinf(most);
  const float minus = finite ? float(T(most + precise::log(sum))) : 0.0f;
  const float wanted = float(T(most - minus));
  uint block = blocks - 1;
  for (uint i = thread_index_in_threadgroup; i < blocks; i += THREADS)
    if (float(T(largest[i] - minus)) == wanted) block = min(block, i);
  block = simd_min(block);
  if (thread_index_in_simdgroup == 0) first_blocks[simdgroup_index_in_threadgroup] = block;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  for (uint s = 0; s < SIMDS; ++s) block = min(block, first_blocks[s]);

  const uint end = min(uint(V), (block + 1) * BLOCK);
  uint first = end;
  for (uint i = block * BLOCK + thread_index_in_threadgroup; i < end; i += THREADS)
    if (float(T(float(x[i]) - minus)) == wanted) first = min(first, i);
  first = simd_min(first);
  if (thread_index_in_simdgroup == 0) first_tokens[simdgroup_index_in_threadgroup] = first;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  if (thread_index_in_threadgroup == 0) {
    for (uint s = 0; s < SIMDS; ++s) first = min(first, first_tokens[s]);
    token[row] = has_token ? first : 0u;
    logprob[row] = finite ? T(wanted) : T(NAN);
  }
}
