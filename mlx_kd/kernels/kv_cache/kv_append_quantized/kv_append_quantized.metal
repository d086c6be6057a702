// kv_append_quantized: new rows of keys and values are quantised into a cache, in place.
//
// A simdgroup takes one group of one new row: its ends, its scale and bias, its codes. The rule is that
// of the CPU kernel. A batch row whose offset is negative or above S - M is not written.
//
// Grid: at least B * H * M * (Dk + Dv) / group_size * 32 threads in x, in threadgroups of whole simdgroups.
#include <metal_stdlib>
using namespace metal;

#ifndef KD_DTYPE
#define KD_DTYPE 1  // of the arrays: 0 float, 1 half, 2 bfloat
#endif
#ifndef KD_ALIGNED
#define KD_ALIGNED 1
#endif
#ifndef VEC
#define VEC 1
#endif

#include "../../common/packs.metal.h"

[[kernel]] void mlx_kd_kv_append_quantized(
    const device T* new_keys [[buffer(0)]],
    const device T* new_values [[buffer(1)]],
    const device int* offset [[buffer(2)]],
    device uint* key_codes_out [[buffer(3)]],
    device T* key_scales_out [[buffer(4)]],
    device T* key_biases_out [[buffer(5)]],
    device uint* value_codes_out [[buffer(6)]],
    device T* value_scales_out [[buffer(7)]],
    device T* value_biases_out [[buffer(8)]],
    const constant long* new_keys_strides [[buffer(9)]],
    const constant long* new_values_strides [[buffer(10)]],
    constant int& S [[buffer(11)]],
    constant int& B [[buffer(12)]],
    constant int& H [[buffer(13)]],
    constant int& M [[buffer(14)]],
    constant int& Dk [[buffer(15)]],
    constant int& Dv [[buffer(16)]],
    constant int& ragged [[buffer(17)]],
    constant int& bits [[buffer(18)]],
    constant int& group_size [[buffer(19)]],
    uint3 thread_position_in_grid [[thread_position_in_grid]],
    uint lane [[thread_index_in_simdgroup]]) {
  const int group = group_size;
  const int key_groups = Dk / group, groups = key_groups + Dv / group;
  const int i = int(thread_position_in_grid.x / 32);
  if (i >= B * H * M * groups) return;
  const int row = i / groups, both = i % groups;
  const int t = row % M, head = row / M, b = head / H;
  const int first = offset[ragged != 0 ? b : 0];
  if (first < 0 || first > S - M) return;
  const bool key = both < key_groups;
  const int g = key ? both : both - key_groups, width = key ? Dk : Dv;
  const constant long* strides = key ? new_keys_strides : new_values_strides;
  const device T* x = (key ? new_keys : new_values) + long(b) * strides[0] +
                      long(head % H) * strides[1] + long(t) * strides[2] + long(g) * group;
  float low = float(x[0]), high = low;
  for (int k = int(lane); k < group; k += 32) {
    low = min(low, float(x[k]));
    high = max(high, float(x[k]));
  }
  low = simd_min(low);
  high = simd_max(high);
  const float most_code = float((1 << bits) - 1);
  const bool by_low = abs(low) > abs(high);
  float scale = max((high - low) / most_code, 1e-7f);
  scale = by_low ? scale : -scale;
  const float end = by_low ? low : high;
  const float q0 = rint(end / scale);
  float bias = 0.0f;
  if (q0 != 0.0f) {
    scale = end / q0;
    bias = end;
  }
  const long to = long(head) * long(S) + long(first) + long(t);
  const long at = to * long(width / group) + long(g);
  if (lane == 0) {
    (key ? key_scales_out : value_scales_out)[at] = T(scale);
    (key ? key_biases_out : value_biases_out)[at] = T(bias);
  }
  device uint* codes =
      (key ? key_codes_out : value_codes_out) + to * long(width * bits / 32) + long(g * group * bits / 32);
  const int each = 32 / bits;
  for (int word = int(lane); word < group / each; word += 32) {
    uint packed = 0;
    for (int k = 0; k < each; ++k) {
      const float q = clamp(rint((float(x[word * each + k]) - bias) / scale), 0.0f, most_code);
      packed |= uint(q) << uint(k * bits);
    }
    codes[word] = packed;
  }
}
