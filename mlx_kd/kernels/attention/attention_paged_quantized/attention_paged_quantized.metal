// attention_paged_quantized: y = softmax(scale q k^T) v for each head, with keys and values as
// codes in pages.
//
// A threadgroup takes one row of q, as attention_paged has it; codes become numbers in registers. A
// key whose page is not there has no weight.
//
// Grid: THREADS * B * Hq * M threads in x, in threadgroups of THREADS.
#include <metal_stdlib>
using namespace metal;

#ifndef KD_DTYPE
#define KD_DTYPE 1  // of the arrays: 0 float, 1 half, 2 bfloat
#endif
#ifndef KD_ALIGNED
#define KD_ALIGNED 1
#endif
#ifndef THREADS
#define THREADS 128
#endif
#ifndef BLOCK
#define BLOCK 256  // keys at a time
#endif
#define VEC 1

#include "../../common/packs.metal.h"
#include "../codes.metal.h"
#include "../pages.metal.h"

#define WIDEST 1024

[[kernel]] void mlx_kd_attention_paged_quantized(
    const device T* q [[buffer(0)]],
    const device uint* key_codes [[buffer(1)]],
    const device T* key_scales [[buffer(2)]],
    const device T* key_biases [[buffer(3)]],
    const device uint* value_codes [[buffer(4)]],
    const device T* value_scales [[buffer(5)]],
    const device T* value_biases [[buffer(6)]],
    const device int* table [[buffer(7)]],
    const device int* begins [[buffer(8)]],
    const device int* ends [[buffer(9)]],
    device T* y [[buffer(10)]],
    const constant long* q_strides [[buffer(11)]],
    constant float& scale [[buffer(12)]],
    constant int& W [[buffer(13)]],
    constant int& P [[buffer(14)]],
    constant int& L [[buffer(15)]],
    constant int& Hq [[buffer(16)]],
    constant int& Hk [[buffer(17)]],
    constant int& M [[buffer(18)]],
    constant int& Dk [[buffer(19)]],
    constant int& Dv [[buffer(20)]],
    constant int& bits [[buffer(21)]],
    constant int& group_size [[buffer(22)]],
    uint3 threadgroup_position_in_grid [[threadgroup_position_in_grid]],
    uint3 thread_position_in_threadgroup [[thread_position_in_threadgroup]]) {
  threadgroup float scores[BLOCK];
  threadgroup float sums[WIDEST];
  threadgroup float query[WIDEST];
  const int row = int(threadgroup_position_in_grid.x), me = int(thread_position_in_threadgroup.x);
  const int t = row % M, head = row / M % Hq, b = row / M / Hq, key_head = head / (Hq / Hk);
  const device T* from =
      q + long(b) * q_strides[0] + long(head) * q_strides[1] + long(t) * q_strides[2];
  const device int* pages = table + long(b) * long(W);
  for (int i = me; i < Dk; i += THREADS) query[i] = float(from[i]) * scale;
  for (int i = me; i < Dv; i += THREADS) sums[i] = 0.0f;
  const int first = max(begins[b], 0);
  const int last = min(ends[b] - M + t + 1, min(ends[b], W * L));
  float largest = -INFINITY, powers = 0.0f;
  for (int begin = first; begin < last; begin += BLOCK) {
    const int count = min(BLOCK, last - begin);
    threadgroup_barrier(mem_flags::mem_threadgroup);
    for (int j = me; j < count; j += THREADS) {
      const long key = row_of(pages, begin + j, P, Hk, key_head, L);
      float score = 0.0f;
      if (key >= 0)
        for (int i = 0; i < Dk; ++i)
          score += query[i] * coded(key_codes + key * long(Dk * bits / 32),
                                    key_scales + key * long(Dk / group_size),
                                    key_biases + key * long(Dk / group_size), i, bits, group_size);
      scores[j] = key >= 0 ? score : -INFINITY;
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    float most = largest;
    for (int j = 0; j < count; ++j) most = max(most, scores[j]);
    const float base = most == -INFINITY ? 0.0f : most;
    const float shrink = largest == -INFINITY ? 0.0f : precise::exp(largest - base);
    float added = 0.0f;
    for (int j = 0; j < count; ++j) added += precise::exp(scores[j] - base);
    powers = powers * shrink + added;
    largest = most;
    for (int i = me; i < Dv; i += THREADS) {
      float sum = sums[i] * shrink;
      for (int j = 0; j < count; ++j) {
        const long value = row_of(pages, begin + j, P, Hk, key_head, L);
        if (value >= 0)
          sum += precise::exp(scores[j] - base) *
                 coded(value_codes + value * long(Dv * bits / 32),
                       value_scales + value * long(Dv / group_size),
                       value_biases + value * long(Dv / group_size), i, bits, group_size);
      }
      sums[i] = sum;
    }
  }
  for (int i = me; i < Dv; i += THREADS)
    y[long(row) * long(Dv) + long(i)] = powers == 0.0f ? T(0.0f) : T(sums[i] / powers);
}
