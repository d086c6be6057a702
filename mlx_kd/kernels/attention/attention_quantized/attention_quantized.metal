// attention_quantized: y = softmax(scale q k^T) v for each head, with keys and values as codes.
//
// A threadgroup takes one row of q. It goes through the keys BLOCK at a time: each thread makes the
// scores of some keys, then, after the largest score and the sum of powers are known, the sums over
// v of some elements. Codes become numbers in registers.
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

#define WIDEST 1024
#define MASKED -8.507059173023462e37f

[[kernel]] void mlx_kd_attention_quantized(
    const device T* q [[buffer(0)]],
    const device uint* key_codes [[buffer(1)]],
    const device T* key_scales [[buffer(2)]],
    const device T* key_biases [[buffer(3)]],
    const device uint* value_codes [[buffer(4)]],
    const device T* value_scales [[buffer(5)]],
    const device T* value_biases [[buffer(6)]],
    const device bool* mask [[buffer(7)]],
    device T* y [[buffer(8)]],
    const constant long* q_strides [[buffer(9)]],
    const constant long* key_codes_strides [[buffer(10)]],
    const constant long* key_scales_strides [[buffer(11)]],
    const constant long* key_biases_strides [[buffer(12)]],
    const constant long* value_codes_strides [[buffer(13)]],
    const constant long* value_scales_strides [[buffer(14)]],
    const constant long* value_biases_strides [[buffer(15)]],
    const constant long* mask_strides [[buffer(16)]],
    constant float& scale [[buffer(17)]],
    constant int& S [[buffer(18)]],
    constant int& Hq [[buffer(19)]],
    constant int& Hk [[buffer(20)]],
    constant int& M [[buffer(21)]],
    constant int& Dk [[buffer(22)]],
    constant int& Dv [[buffer(23)]],
    constant int& causal [[buffer(24)]],
    constant int& has_mask [[buffer(25)]],
    constant int& bits [[buffer(26)]],
    constant int& group_size [[buffer(27)]],
    uint3 threadgroup_position_in_grid [[threadgroup_position_in_grid]],
    uint3 thread_position_in_threadgroup [[thread_position_in_threadgroup]]) {
  threadgroup float scores[BLOCK];
  threadgroup float sums[WIDEST];
  threadgroup float query[WIDEST];
  const int row = int(threadgroup_position_in_grid.x), me = int(thread_position_in_threadgroup.x);
  const int t = row % M, head = row / M % Hq, b = row / M / Hq, key_head = head / (Hq / Hk);
  const device T* from =
      q + long(b) * q_strides[0] + long(head) * q_strides[1] + long(t) * q_strides[2];
  for (int i = me; i < Dk; i += THREADS) query[i] = float(from[i]) * scale;
  for (int i = me; i < Dv; i += THREADS) sums[i] = 0.0f;
  const long k0 = long(b) * key_codes_strides[0] + long(key_head) * key_codes_strides[1];
  const long k1 = long(b) * key_scales_strides[0] + long(key_head) * key_scales_strides[1];
  const long k2 = long(b) * key_biases_strides[0] + long(key_head) * key_biases_strides[1];
  const long v0 = long(b) * value_codes_strides[0] + long(key_head) * value_codes_strides[1];
  const long v1 = long(b) * value_scales_strides[0] + long(key_head) * value_scales_strides[1];
  const long v2 = long(b) * value_biases_strides[0] + long(key_head) * value_biases_strides[1];
  const long m0 = has_mask != 0 ? long(b) * mask_strides[0] + long(head) * mask_strides[1] +
                                      long(t) * mask_strides[2]
                                : 0;
  const int position = causal != 0 ? S - M + t : S - 1;
  float largest = -INFINITY, powers = 0.0f;
  for (int begin = 0; begin < S; begin += BLOCK) {
    const int count = min(BLOCK, S - begin);
    threadgroup_barrier(mem_flags::mem_threadgroup);
    for (int j = me; j < count; j += THREADS) {
      const long key = long(begin + j);
      float score = 0.0f;
      for (int i = 0; i < Dk; ++i)
        score += query[i] * coded(key_codes + k0 + key * key_codes_strides[2],
                                  key_scales + k1 + key * key_scales_strides[2],
                                  key_biases + k2 + key * key_biases_strides[2], i, bits,
                                  group_size);
      const bool hidden = begin + j > position || (has_mask != 0 && !mask[m0 + key]);
      scores[j] = hidden ? MASKED : score;
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    float most = largest;
    for (int j = 0; j < count; ++j) most = max(most, scores[j]);
    const float shrink = largest == -INFINITY ? 0.0f : precise::exp(largest - most);
    float added = 0.0f;
    for (int j = 0; j < count; ++j) added += precise::exp(scores[j] - most);
    powers = powers * shrink + added;
    largest = most;
    for (int i = me; i < Dv; i += THREADS) {
      float sum = sums[i] * shrink;
      for (int j = 0; j < count; ++j) {
        const long key = long(begin + j);
        sum += precise::exp(scores[j] - most) *
               coded(value_codes + v0 + key * value_codes_strides[2],
                     value_scales + v1 + key * value_scales_strides[2],
                     value_biases + v2 + key * value_biases_strides[2], i, bits, group_size);
      }
      sums[i] = sum;
    }
  }
  for (int i = me; i < Dv; i += THREADS) y[long(row) * long(Dv) + long(i)] = T(sums[i] / powers);
}
