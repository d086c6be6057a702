// The experts that each token chooses, and their weights: router.cpu.cpp says what is computed.
//
// A threadgroup of 32 threads takes TOKENS tokens; a thread takes every 32nd expert. scratch0: 3 floats
// an expert. Grid: 32 * ceil(M / TOKENS) threads in x. The host names of thread positions and ports are
// those of metal_kernel.
#include <metal_stdlib>
using namespace metal;

#ifndef KD_DTYPE
#define KD_DTYPE 1  // of the logits: 0 float, 1 half, 2 bfloat
#endif
#ifndef KD_ALIGNED
#define KD_ALIGNED 1  // 0: arrays start anywhere, 1: at a multiple of 16 bytes
#endif
#ifndef TOKENS
#define TOKENS 1  // of a threadgroup, one after the other
#endif
#ifndef FAST
#define FAST 0  // 1: fast::exp
#endif
#define VEC 1

#include "../../common/packs.metal.h"
#if FAST
#define EXP fast::exp
#else
#define EXP precise::exp
#endif

// Of sigmoids they are float, whatever T is.
static void put_weight(device T* weights, ulong at, bool is_float, float weight) {
  if (is_float)
    reinterpret_cast<device float*>(weights)[at] = weight;
  else
    weights[at] = T(weight);
}

// The largest that is left and, among equals, the lowest index; it is then taken.
static uint take_largest(device float* values, uint count, uint lane) {
  float most = -INFINITY;
  uint at = 0xffffffffu;
  for (uint i = lane; i < count; i += 32) {
    const float value = values[i];
    if (!isnan(value) && (at == 0xffffffffu || value > most)) {
      most = value;
      at = i;
    }
  }
  const float largest = simd_max(most);
  const uint first = simd_min(most == largest ? at : 0xffffffffu);
  if (first % 32 == lane) values[first] = NAN;
  return first;
}

[[max_total_threads_per_threadgroup(32)]] [[kernel]] void mlx_kd_router(
    const device T* logits [[buffer(0)]],
    const device float* correction [[buffer(1)]],
    device uint* ids [[buffer(2)]],
    device T* weights [[buffer(3)]],
    device float* scratch0 [[buffer(4)]],
    constant int& M [[buffer(14)]],
    constant int& E [[buffer(5)]],
    constant int& top [[buffer(6)]],
    constant int& scoring [[buffer(7)]],
    constant int& normalise [[buffer(8)]],
    constant int& groups [[buffer(9)]],
    constant int& top_groups [[buffer(10)]],
    constant int& group_best [[buffer(11)]],
    constant int& has_correction [[buffer(12)]],
    constant float& scale [[buffer(13)]],
    uint3 threadgroup_position_in_grid [[threadgroup_position_in_grid]],
    uint thread_index_in_threadgroup [[thread_index_in_threadgroup]]) {
  const uint lane = thread_index_in_threadgroup;
  const uint begin = threadgroup_position_in_grid.x * TOKENS;
  for (uint token = begin; token < min(begin + TOKENS, uint(M)); ++token) {
    const uint experts = uint(E);
    const device T* x = logits + ulong(token) * experts;
    device float* scores = scratch0 + ulong(token) * 3 * experts;
    device float* choice = scores + experts;
    device float* of_groups = choice + experts;
    const ulong first = ulong(token) * uint(top);

    float most = -INFINITY;
    float broken = 0.0f;
    for (uint i = lane; i < experts; i += 32) {
      const float value = float(x[i]);
      if (isnan(value)) broken = 1.0f;
      if (value > most) most = value;
    }
    most = simd_max(most);
    if (scoring != 1 && isinf(most)) broken = 1.0f;

    float sum = 0.0f;
    for (uint i = lane; i < experts; i += 32) {
      const float value = float(x[i]);
      float score;
      if (scoring == 1) {
        const float e = EXP(-abs(value));
        score = value < 0.0f ? e / (1.0f + e) : 1.0f / (1.0f + e);
      } else {
        score = EXP(value - most);
      }
      scores[i] = score;
      sum += score;
    }
    sum = simd_sum(sum);
    for (uint i = lane; i < experts; i += 32) {
      if (scoring == 0) scores[i] = scores[i] / sum;
      const float decides = has_correction != 0 ? scores[i] + correction[i] : float(x[i]);
      if (isnan(decides)) broken = 1.0f;
      choice[i] = decides;
    }
    broken = simd_max(broken);
    if (broken > 0.0f) {
      for (uint i = lane; i < uint(top); i += 32) {
        ids[first + i] = i;
        put_weight(weights, first + i, scoring == 1, NAN);
      }
      continue;
    }
    threadgroup_barrier(mem_flags::mem_device);

    if (groups > 1) {
      const uint each = experts / uint(groups);
      for (uint g = lane; g < uint(groups); g += 32) {
        float largest = -INFINITY;
        float second = -INFINITY;
        for (uint i = g * each; i < (g + 1) * each; ++i) {
          const float score = has_correction != 0 ? choice[i] : scores[i];
          if (score > largest) {
            second = largest;
            largest = score;
          } else if (score > second) {
            second = score;
          }
        }
        of_groups[g] = group_best == 2 ? largest + second : largest;
      }
      threadgroup_barrier(mem_flags::mem_device);
      for (int i = 0; i < top_groups; ++i) {
        take_largest(of_groups, uint(groups), lane);
        threadgroup_barrier(mem_flags::mem_device);
      }
      for (uint i = lane; i < experts; i += 32)
        if (!isnan(of_groups[i / each])) choice[i] = has_correction != 0 ? 0.0f : -INFINITY;
      threadgroup_barrier(mem_flags::mem_device);
    }

    float total = 0.0f;
    for (uint i = 0; i < uint(top); ++i) {
      const uint chosen = take_largest(choice, experts, lane);
      total += scores[chosen];
      if (lane == 0) {
        ids[first + i] = chosen;
      }
      if (lane == i % 32) of_groups[i] = scores[chosen];
    }
    threadgroup_barrier(mem_flags::mem_device);
    for (uint i = lane; i < uint(top); i += 32) {
      const float score = of_groups[i];
      const float share = normalise != 0 || scoring == 2 ? score / total : score;
      put_weight(weights, first + i, scoring == 1, share * scale);
    }
  }
}
