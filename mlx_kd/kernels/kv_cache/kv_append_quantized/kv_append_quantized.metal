// kv_append_quantized: new rows of keys and values are quantised into a cache, in place.
//
// A simdgroup takes 128 elements of one new row, a lane four of them, which it reads before the offset is
// there. A batch row whose offset is negative or above S - M is not written.
//
// Grid: at least B * H * M * (Dk / 128 + Dv / 128, both rounded up) * 32 threads in x, in threadgroups of
// whole simdgroups.
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
#include "../../common/quantize.metal.h"

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
  // Strides and an offset are read with the sizes, not after them.
  const RowStrides of_keys = row_strides(new_keys_strides), of_values = row_strides(new_values_strides);
  const int first_offset = offset[0];
  const int key_parts = (Dk + 127) / 128, parts = key_parts + (Dv + 127) / 128;
  const int i = int(thread_position_in_grid.x / 32);
  if (i >= B * H * M * parts) return;
  const int row = i / parts, both = i % parts;
  const int head = row / M, t = row % M, b = head / H;
  const bool key = both < key_parts;
  const int width = key ? Dk : Dv;
  const int at = (key ? both : both - key_parts) * 128 + 4 * int(lane);
  const RowStrides strides = key ? of_keys : of_values;
  const device T* x = (key ? new_keys : new_values) + long(b) * strides.batch + long(head % H) * strides.head +
                      long(t) * strides.row + long(at);
  const bool has = at < width;
  const float4 four = has ? float4(x[0], x[1], x[2], x[3]) : float4(0.0f);
  const int first = ragged != 0 ? offset[b] : first_offset;
  if (first < 0 || first > S - M) return;
  const long to = long(head) * long(S) + long(first) + long(t), groups = to * long(width / group_size);
  quantize_four(four, has, at, bits, group_size,
                (key ? key_codes_out : value_codes_out) + to * long(width * bits / 32),
                (key ? key_scales_out : value_scales_out) + groups,
                (key ? key_biases_out : value_biases_out) + groups);
}
