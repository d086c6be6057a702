// mlstm_chunkwise: h of every token and the state after the last.
//
// mlx_kd_mlstm_gates: a thread takes a head, token by token; scratch0 (heads, S, GATE_FLOATS), m, and in scratch2 (heads)
// what rounding m loses.
// mlx_kd_mlstm_states: a thread takes ROWS rows of a column of the memory, chunk by chunk; the column after the last
// is n. scratch1 (heads, chunks, DHQK, DHHV + 1) gets the state before each chunk, c and n that after the last.
// mlx_kd_mlstm_chunkwise: a threadgroup takes ROWS tokens of a chunk: their scores with weights, then h.
//
// Grids: heads threads; heads * ceil(DHQK / ROWS) * (DHHV + 1) threads; heads * chunks * ceil(CHUNK / ROWS) * THREADS
// threads. Threadgroups of the last: THREADS. stage_index: tokens of a chunk, at most CHUNK.
#include <metal_stdlib>
using namespace metal;

#ifndef KD_DTYPE
#define KD_DTYPE 1  // of the arrays: 0 float, 1 half, 2 bfloat
#endif
#ifndef KD_ALIGNED
#define KD_ALIGNED 1  // 0: arrays start anywhere, 1: at a multiple of 16 bytes
#endif
#ifndef CHUNK
#define CHUNK 64  // tokens of a chunk at most
#endif
#ifndef ROWS
#define ROWS 4  // tokens of a threadgroup, and rows of the memory of a thread
#endif
#ifndef THREADS
#define THREADS 128  // of a threadgroup: a multiple of 32
#endif

#define VEC 1
#include "../../common/packs.metal.h"
#include "../gates.metal.h"
#include "states.metal.h"

[[kernel]] void mlx_kd_mlstm_gates(
    const device float* i [[buffer(0)]],
    const device float* f [[buffer(1)]],
    const device float* m0 [[buffer(2)]],
    device float* m [[buffer(3)]],
    device float* scratch0 [[buffer(4)]],
    device float* scratch2 [[buffer(5)]],
    constant int& S [[buffer(6)]],
    constant int& heads [[buffer(7)]],
    constant int& siging [[buffer(8)]],
    constant int& has_state [[buffer(9)]],
    constant int& stage_index [[buffer(10)]],
    uint3 thread_position_in_grid [[thread_position_in_grid]]) {
  const uint head = thread_position_in_grid.x;
  if (head >= uint(heads)) return;
  const ulong from = ulong(head) * ulong(S);
  float rest = 0.0f;
  m[head] = find_gates(i + from, f + from, scratch0 + from * GATE_FLOATS, S, stage_index,
                       has_state != 0 ? m0[head] : 0.0f, siging != 0, rest);
  scratch2[head] = rest;
}

// The last state belongs to m as it is stored.
[[kernel]] void mlx_kd_mlstm_states(
    const device T* k [[buffer(0)]],
    const device T* v [[buffer(1)]],
    const device float* c0 [[buffer(2)]],
    const device float* n0 [[buffer(3)]],
    device float* c [[buffer(4)]],
    device float* n [[buffer(5)]],
    device float* scratch0 [[buffer(6)]],
    device float* scratch1 [[buffer(7)]],
    device float* scratch2 [[buffer(8)]],
    constant int& S [[buffer(9)]],
    constant int& heads [[buffer(10)]],
    constant int& DHQK [[buffer(11)]],
    constant int& DHHV [[buffer(12)]],
    constant int& has_state [[buffer(13)]],
    constant int& stage_index [[buffer(14)]],
    uint3 thread_position_in_grid [[thread_position_in_grid]]) {
  const uint columns = uint(DHHV) + 1;
  const uint blocks = (uint(DHQK) + ROWS - 1) / ROWS;
  const uint head = thread_position_in_grid.x / (columns * blocks);
  if (head >= uint(heads)) return;
  const int column = int(thread_position_in_grid.x % columns);
  const int row = int(thread_position_in_grid.x / columns % blocks) * ROWS;
  const ulong from = ulong(head) * ulong(S);
  const ulong chunks = (ulong(S) + ulong(stage_index) - 1) / ulong(stage_index);
  const ulong size = ulong(DHQK) * ulong(DHHV);
  float sums[ROWS];
  find_states(k + from * ulong(DHQK), v + from * ulong(DHHV), c0 + ulong(head) * size,
              n0 + ulong(head) * ulong(DHQK), scratch0 + from * GATE_FLOATS,
              scratch1 + ulong(head) * chunks * (size + ulong(DHQK)), sums, S, stage_index, DHQK, DHHV, row, column,
              has_state != 0);
  const float by = 1.0f + scratch2[head];
  for (int r = 0; r < min(ROWS, DHQK - row); ++r) {
    if (column < DHHV)
      c[ulong(head) * size + ulong((row + r) * DHHV + column)] = by * sums[r];
    else
      n[head * uint(DHQK) + uint(row + r)] = by * sums[r];
  }
}

[[max_total_threads_per_threadgroup(THREADS)]] [[kernel]] void mlx_kd_mlstm_chunkwise(
    const device T* q [[buffer(0)]],
    const device T* k [[buffer(1)]],
    const device T* v [[buffer(2)]],
    device T* h [[buffer(3)]],
    device float* scratch0 [[buffer(4)]],
    device float* scratch1 [[buffer(5)]],
    constant float& eps [[buffer(6)]],
    constant int& S [[buffer(7)]],
    constant int& DHQK [[buffer(8)]],
    constant int& DHHV [[buffer(9)]],
    constant int& normalize [[buffer(10)]],
    constant int& stage_index [[buffer(11)]],
    uint3 threadgroup_position_in_grid [[threadgroup_position_in_grid]],
    uint thread_index_in_threadgroup [[thread_index_in_threadgroup]],
    uint thread_index_in_simdgroup [[thread_index_in_simdgroup]],
    uint simdgroup_index_in_threadgroup [[simdgroup_index_in_threadgroup]]) {
  threadgroup float weighted[ROWS * CHUNK];
  threadgroup float inverse[ROWS];
  const int chunk = stage_index;
  const Place p = place_of(threadgroup_position_in_grid.x, S, chunk);
  const int first = p.first;
  if (first >= p.count) return;
  const int rows = min(ROWS, p.count - first);
  const device float* tokens = scratch0 + p.token * GATE_FLOATS;
  const device float* state = scratch1 + state_at(p.head, p.chunk, S, chunk, DHQK, DHHV);
  const device T* queries = q + (p.token + ulong(first)) * ulong(DHQK);
  const device T* keys = k + p.token * ulong(DHQK);
  const device T* values = v + p.token * ulong(DHHV);
  const float by = precise::rsqrt(float(DHQK));

  for (int e = int(thread_index_in_threadgroup); e < rows * (first + rows); e += THREADS) {
    const int r = e % rows;
    const int s = e / rows;
    const float weight = weight_of(tokens, first + r, s);
    float score = 0.0f;
    for (int d = 0; d < DHQK && s <= first + r; ++d)
      score += by * float(queries[r * DHQK + d]) * float(keys[s * DHQK + d]);
    weighted[r * CHUNK + s] = weight == 0.0f ? 0.0f : weight * score;
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);

  for (int r = int(simdgroup_index_in_threadgroup); r < rows; r += THREADS / 32) {
    float sum = 0.0f;
    for (int s = int(thread_index_in_simdgroup); s <= first + r; s += 32) sum += weighted[r * CHUNK + s];
    const float past = tokens[(first + r) * GATE_FLOATS + PAST];
    for (int d = int(thread_index_in_simdgroup); d < DHQK && past != 0.0f; d += 32)
      sum += past * by * float(queries[r * DHQK + d]) * state[d * (DHHV + 1) + DHHV];
    sum = simd_sum(sum);
    if (thread_index_in_simdgroup == 0) {
      const float floor = tokens[(first + r) * GATE_FLOATS + FLOOR];
      const float size = fabs(sum);
      inverse[r] = normalize != 0 ? 1.0f / ((size > floor || isnan(size) ? size : floor) + eps) : 1.0f;
    }
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);

  for (int e = int(thread_index_in_threadgroup); e < DHHV; e += THREADS) {
    float sums[ROWS];
#pragma unroll
    for (int r = 0; r < ROWS; ++r) sums[r] = 0.0f;
    for (int d = 0; d < DHQK; ++d) {
      const float c = by * state[d * (DHHV + 1) + e];
#pragma unroll
      for (int r = 0; r < ROWS; ++r)
        if (r < rows) sums[r] += float(queries[r * DHQK + d]) * c;
    }
#pragma unroll
    for (int r = 0; r < ROWS; ++r)
      if (r < rows) {
        const float past = tokens[(first + r) * GATE_FLOATS + PAST];
        sums[r] = past == 0.0f ? 0.0f : past * sums[r];
      }
    for (int s = 0; s < first + rows; ++s) {
      const float value = float(values[s * DHHV + e]);
#pragma unroll
      for (int r = 0; r < ROWS; ++r)
        if (r < rows && s <= first + r) sums[r] += weighted[r * CHUNK + s] * value;
    }
    for (int r = 0; r < rows; ++r)
      h[(p.token + ulong(first + r)) * ulong(DHHV) + e] = T(sums[r] * inverse[r]);
  }
}
