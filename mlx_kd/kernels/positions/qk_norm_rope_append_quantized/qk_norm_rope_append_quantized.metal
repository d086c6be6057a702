// Heads of queries and keys, each normed by its weight if there is one, then rotated by its position;
// keys and values are quantised into a cache, in place.
//
// Two stages, since a function has 31 buffers at most. In both a simdgroup takes a row: of the queries,
// as qk_norm_rope has it; of the keys and values, which is made in threadgroup memory, rounded to T, and
// then quantised a group at a time, by the rule of the CPU kernel. Nothing is written to the cache where
// the rows do not fit.
//
// Grids: B * Hq * M * 32 threads in x, and 2 * B * Hk * M * 32, in threadgroups of 32 times the rows
// that share one.
#include <metal_stdlib>
using namespace metal;

#ifndef KD_DTYPE
#define KD_DTYPE 1  // of the arrays: 0 float, 1 half, 2 bfloat
#endif
#ifndef KD_ALIGNED
#define KD_ALIGNED 1  // 0: arrays start anywhere, 1: at a multiple of 16 bytes
#endif
#ifndef ROWS
#define ROWS 1  // of keys and values that share a threadgroup
#endif
#ifndef WIDEST
#define WIDEST 1024  // elements of a row at most
#endif

#define VEC 1
#include "../../common/packs.metal.h"
#include "../quantize.metal.h"

[[kernel]] void mlx_kd_qk_norm_rope_append_quantized_queries(
    const device T* q [[buffer(0)]],
    const device int* offset [[buffer(1)]],
    const device T* wq [[buffer(2)]],
    const device float* freqs [[buffer(3)]],
    device T* q_out [[buffer(4)]],
    const constant long* q_strides [[buffer(5)]],
    constant float& eps [[buffer(6)]],
    constant float& base [[buffer(7)]],
    constant float& scale [[buffer(8)]],
    constant int& Hq [[buffer(9)]],
    constant int& M [[buffer(10)]],
    constant int& D [[buffer(11)]],
    constant int& dims [[buffer(12)]],
    constant int& traditional [[buffer(13)]],
    constant int& ragged [[buffer(14)]],
    constant int& has_freqs [[buffer(15)]],
    constant int& has_wq [[buffer(16)]],
    uint3 thread_position_in_grid [[thread_position_in_grid]]) {
  const uint lane = thread_position_in_grid.x % 32;
  const uint row = thread_position_in_grid.x / 32;
  const uint t = row % uint(M);
  const uint h = row / uint(M) % uint(Hq);
  const uint b = row / uint(M) / uint(Hq);
  Rotation how;
  how.dims = dims;
  how.width = D;
  how.interleaved = traditional != 0;
  how.normed = has_wq != 0;
  how.log2_base = precise::log2(base);
  how.position = float(offset[ragged != 0 ? b : 0] + int(t)) * scale;
  how.eps = eps;
  turn_row(how, q + long(b) * q_strides[0] + long(h) * q_strides[1] + long(t) * q_strides[2], wq, freqs,
           has_freqs != 0, q_out + ulong(row) * uint(D), lane);
}

[[kernel]] void mlx_kd_qk_norm_rope_append_quantized(
    const device T* k [[buffer(0)]],
    const device T* v [[buffer(1)]],
    const device int* row [[buffer(2)]],
    const device int* offset [[buffer(3)]],
    const device T* wk [[buffer(4)]],
    const device float* freqs [[buffer(5)]],
    device uint* key_codes_out [[buffer(6)]],
    device T* key_scales_out [[buffer(7)]],
    device T* key_biases_out [[buffer(8)]],
    device uint* value_codes_out [[buffer(9)]],
    device T* value_scales_out [[buffer(10)]],
    device T* value_biases_out [[buffer(11)]],
    const constant long* k_strides [[buffer(12)]],
    const constant long* v_strides [[buffer(13)]],
    constant float& eps [[buffer(14)]],
    constant float& base [[buffer(15)]],
    constant float& scale [[buffer(16)]],
    constant int& S [[buffer(17)]],
    constant int& B [[buffer(18)]],
    constant int& Hk [[buffer(19)]],
    constant int& M [[buffer(20)]],
    constant int& D [[buffer(21)]],
    constant int& Dv [[buffer(22)]],
    constant int& dims [[buffer(23)]],
    constant int& traditional [[buffer(24)]],
    constant int& ragged [[buffer(25)]],
    constant int& has_freqs [[buffer(26)]],
    constant int& has_wk [[buffer(27)]],
    constant int& bits [[buffer(28)]],
    constant int& group_size [[buffer(29)]],
    uint3 thread_position_in_grid [[thread_position_in_grid]],
    uint thread_index_in_threadgroup [[thread_index_in_threadgroup]]) {
  threadgroup float held[ROWS * WIDEST];
  threadgroup float* x = held + thread_index_in_threadgroup / 32 * WIDEST;
  const uint lane = thread_position_in_grid.x % 32;
  const uint all = thread_position_in_grid.x / 32;
  // Strides and an offset are read with the sizes, not after them.
  const RowStrides of_keys = row_strides(k_strides), of_values = row_strides(v_strides);
  const int first = row[0], first_offset = offset[0];
  const uint keys = uint(B) * uint(Hk) * uint(M);
  const bool is_value = all >= keys;
  const uint one = is_value ? all - keys : all;
  const uint t = one % uint(M);
  const uint head = one / uint(M);
  const uint b = head / uint(Hk);
  const uint h = head % uint(Hk);
  const RowStrides strides = is_value ? of_values : of_keys;
  const device T* from =
      (is_value ? v : k) + long(b) * strides.batch + long(h) * strides.head + long(t) * strides.row;
  const int width = is_value ? Dv : D;
  if (is_value) {
    for (int i = int(lane); i < Dv; i += 32) x[i] = float(from[i]);
  } else {
    Rotation how;
    how.dims = dims;
    how.width = D;
    how.interleaved = traditional != 0;
    how.normed = has_wk != 0;
    how.log2_base = precise::log2(base);
    how.position = float((ragged != 0 ? offset[b] : first_offset) + int(t)) * scale;
    how.eps = eps;
    turn_to(how, from, wk, freqs, has_freqs != 0, x, lane);
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  if (first < 0 || first > S - M) return;
  const ulong to = ulong(head) * ulong(S) + ulong(first) + ulong(t);
  const ulong groups = ulong(width / group_size);
  quantize_row(x, width, bits, group_size,
               (is_value ? value_codes_out : key_codes_out) + to * ulong(width * bits / 32),
               (is_value ? value_scales_out : key_scales_out) + to * groups,
               (is_value ? value_biases_out : key_biases_out) + to * groups, lane);
}
