// y = softmax(scale q k^T) v for each head, with limits, masks, biases and sinks.
//
// mlx_kd_attention: a threadgroup takes ROWS of the G M query rows that share a key head, and BLOCK
// keys. A simdgroup finds the scores of one key for all rows; then a thread sums columns of v for all
// rows. scratch0 (units, ROWS, 2) gets the largest score and the sum of powers, scratch1 (units, ROWS,
// Dv) the sums. Keys that no row sees are left out: their sum of powers is 0.
// mlx_kd_attention_merge: a threadgroup takes a row and adds its blocks of keys.
// The score of a masked key is finite: if a row sees no key, all have the same weight.
//
// Grids: units * THREADS threads in x, with units = B * Hk * ceil(G M / ROWS) * ceil(S / BLOCK); B * Hq
// * M * THREADS threads in x. Threadgroups: THREADS.
#include <metal_stdlib>
using namespace metal;

#ifndef KD_DTYPE
#define KD_DTYPE 1  // of the arrays: 0 float, 1 half, 2 bfloat
#endif
#ifndef KD_ALIGNED
#define KD_ALIGNED 1  // 0: arrays start anywhere, 1: at a multiple of 16 bytes
#endif
#ifndef ROWS
#define ROWS 4  // query rows of a threadgroup
#endif
#ifndef BLOCK
#define BLOCK 256  // keys of a threadgroup
#endif
#ifndef THREADS
#define THREADS 128  // of a threadgroup: a multiple of 32
#endif
#ifndef FAST
#define FAST 0  // 1: fast::exp
#endif

#define VEC 1
#include "../../common/packs.metal.h"
#define SIMDS (THREADS / 32)
#define MASKED (-8.507059e37f)
#if FAST
#define EXP fast::exp
#else
#define EXP precise::exp
#endif

static float larger(float x, float than) {
  return x > than ? x : than;  // NaN in x is passed over
}

// exp(x - most); 0, or NaN for NaN, where no score is above -inf.
static float power_of(float x, float most) {
  if (isinf(most)) return isnan(x) || most > 0.0f ? NAN : 0.0f;
  return EXP(x - most);
}

[[max_total_threads_per_threadgroup(THREADS)]] [[kernel]] void mlx_kd_attention(
    const device T* q [[buffer(0)]],
    const device T* k [[buffer(1)]],
    const device T* v [[buffer(2)]],
    const device bool* mask [[buffer(3)]],
    const device T* bias [[buffer(4)]],
    device float* scratch0 [[buffer(5)]],
    device float* scratch1 [[buffer(6)]],
    const constant long* q_strides [[buffer(7)]],
    const constant long* k_strides [[buffer(8)]],
    const constant long* v_strides [[buffer(9)]],
    const constant long* mask_strides [[buffer(10)]],
    const constant long* bias_strides [[buffer(11)]],
    constant float& scale [[buffer(12)]],
    constant int& S [[buffer(13)]],
    constant int& Hq [[buffer(14)]],
    constant int& Hk [[buffer(15)]],
    constant int& M [[buffer(16)]],
    constant int& Dk [[buffer(17)]],
    constant int& Dv [[buffer(18)]],
    constant int& causal [[buffer(19)]],
    constant int& window [[buffer(20)]],
    constant int& has_mask [[buffer(21)]],
    constant int& has_bias [[buffer(22)]],
    uint3 threadgroup_position_in_grid [[threadgroup_position_in_grid]],
    uint thread_index_in_threadgroup [[thread_index_in_threadgroup]],
    uint thread_index_in_simdgroup [[thread_index_in_simdgroup]],
    uint simdgroup_index_in_threadgroup [[simdgroup_index_in_threadgroup]]) {
  threadgroup float scores[ROWS * BLOCK];
  const int group = Hq / Hk;
  const uint parts = (uint(S) + BLOCK - 1) / BLOCK;
  const uint blocks = (uint(group * M) + ROWS - 1) / ROWS;
  const uint unit = threadgroup_position_in_grid.x;
  const uint block = unit / parts;
  const uint head = block / blocks;  // of keys, in all batch rows
  const long b = long(head / uint(Hk));
  const long key_head = long(head % uint(Hk));
  const int first_row = int(block % blocks) * ROWS;
  const int rows = min(ROWS, group * M - first_row);
  const int begin = int(unit % parts) * BLOCK;
  const int count = min(BLOCK, S - begin);

  // Rows see more of the later keys and less of the earlier ones from one to the next.
  const int first_at = S - M + first_row / group;
  const int last_at = S - M + (first_row + rows - 1) / group;
  bool seen = true;
  if (causal != 0 && begin > last_at) seen = false;
  if (window > 0 && begin + count <= first_at - window + 1) seen = false;
  if (has_mask != 0 || (causal != 0 && first_at < 0)) seen = true;
  device float* numbers = scratch0 + ulong(unit) * ROWS * 2;
  if (!seen) {
    if (thread_index_in_threadgroup < uint(rows)) {
      numbers[2 * thread_index_in_threadgroup] = -INFINITY;
      numbers[2 * thread_index_in_threadgroup + 1] = 0.0f;
    }
    return;
  }

  const device T* keys = k + b * k_strides[0] + key_head * k_strides[1] + begin * k_strides[2];
  for (int j = int(simdgroup_index_in_threadgroup); j < count; j += SIMDS) {
    const device T* key = keys + j * k_strides[2];
    float sums[ROWS];
#pragma unroll
    for (int r = 0; r < ROWS; ++r) sums[r] = 0.0f;
    for (int d = int(thread_index_in_simdgroup); d < Dk; d += 32) {
      const float x = float(key[d]);
#pragma unroll
      for (int r = 0; r < ROWS; ++r)
        if (r < rows) {
          const int row = first_row + r;
          const long query = b * q_strides[0] + (key_head * group + row % group) * q_strides[1] +
                             (row / group) * q_strides[2];
          sums[r] += float(q[query + d]) * x;
        }
    }
#pragma unroll
    for (int r = 0; r < ROWS; ++r) sums[r] = simd_sum(sums[r]);
    if (thread_index_in_simdgroup == 0) {
      for (int r = 0; r < rows; ++r) {
        const int row = first_row + r;
        const int t = row / group;
        const int at = S - M + t;
        const int h = int(key_head) * group + row % group;
        const int index = begin + j;
        float score = sums[r] * scale;
        if (has_bias != 0)
          score += float(bias[b * bias_strides[0] + h * bias_strides[1] + t * bias_strides[2] + index]);
        bool sees = !(causal != 0 && index > at) && !(window > 0 && index <= at - window);
        if (has_mask != 0)
          sees = sees &&
                 mask[b * mask_strides[0] + h * mask_strides[1] + t * mask_strides[2] + index];
        scores[r * BLOCK + j] = sees ? score : MASKED;
      }
    }
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);

  for (int r = int(simdgroup_index_in_threadgroup); r < rows; r += SIMDS) {
    float most = -INFINITY;
    for (int j = int(thread_index_in_simdgroup); j < count; j += 32)
      most = larger(scores[r * BLOCK + j], most);
    most = simd_max(most);
    float sum = 0.0f;
    for (int j = int(thread_index_in_simdgroup); j < count; j += 32) {
      const float power = power_of(scores[r * BLOCK + j], most);
      scores[r * BLOCK + j] = power;
      sum += power;
    }
    sum = simd_sum(sum);
    if (thread_index_in_simdgroup == 0) {
      numbers[2 * r] = most;
      numbers[2 * r + 1] = sum;
    }
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);

  const device T* values = v + b * v_strides[0] + key_head * v_strides[1] + begin * v_strides[2];
  for (int d = int(thread_index_in_threadgroup); d < Dv; d += THREADS) {
    float sums[ROWS];
#pragma unroll
    for (int r = 0; r < ROWS; ++r) sums[r] = 0.0f;
    for (int j = 0; j < count; ++j) {
      const float x = float(values[j * v_strides[2] + d]);
#pragma unroll
      for (int r = 0; r < ROWS; ++r)
        if (r < rows) sums[r] += scores[r * BLOCK + j] * x;
    }
    for (int r = 0; r < rows; ++r) scratch1[(ulong(unit) * ROWS + r) * uint(Dv) + d] = sums[r];
  }
}

[[max_total_threads_per_threadgroup(THREADS)]] [[kernel]] void mlx_kd_attention_merge(
    const device T* sinks [[buffer(0)]],
    device T* y [[buffer(1)]],
    device float* scratch0 [[buffer(2)]],
    device float* scratch1 [[buffer(3)]],
    constant int& S [[buffer(4)]],
    constant int& Hq [[buffer(5)]],
    constant int& Hk [[buffer(6)]],
    constant int& M [[buffer(7)]],
    constant int& Dv [[buffer(8)]],
    constant int& has_sinks [[buffer(9)]],
    uint3 threadgroup_position_in_grid [[threadgroup_position_in_grid]],
    uint thread_index_in_threadgroup [[thread_index_in_threadgroup]]) {
  const uint group = uint(Hq / Hk);
  const uint parts = (uint(S) + BLOCK - 1) / BLOCK;
  const uint blocks = (group * uint(M) + ROWS - 1) / ROWS;
  const uint t = threadgroup_position_in_grid.x % uint(M);
  const uint query_head = threadgroup_position_in_grid.x / uint(M);  // in all batch rows
  const uint row = t * group + query_head % group;
  // Query heads of one key head follow one another, in each batch row.
  const ulong first =
      (ulong(query_head / group) * blocks + row / ROWS) * parts * ROWS + row % ROWS;

  const float sink = has_sinks != 0 ? float(sinks[query_head % uint(Hq)]) : -INFINITY;
  float most = sink;
  for (uint p = 0; p < parts; ++p) most = larger(scratch0[2 * (first + ulong(p) * ROWS)], most);
  float sum = has_sinks != 0 ? power_of(sink, most) : 0.0f;
  for (uint p = 0; p < parts; ++p) {
    const ulong part = first + ulong(p) * ROWS;
    const float powers = scratch0[2 * part + 1];
    if (powers != 0.0f) sum += powers * (isnan(powers) ? 1.0f : power_of(scratch0[2 * part], most));
  }
  for (uint d = thread_index_in_threadgroup; d < uint(Dv); d += THREADS) {
    float made = 0.0f;
    for (uint p = 0; p < parts; ++p) {
      const ulong part = first + ulong(p) * ROWS;
      if (scratch0[2 * part + 1] != 0.0f)
        made += scratch1[part * uint(Dv) + d] * power_of(scratch0[2 * part], most);
    }
    y[ulong(threadgroup_position_in_grid.x) * uint(Dv) + d] = T(made / sum);
  }
}
