// Heads of queries and keys, each normed by its weight if there is one, then rotated by its position.
//
// A simdgroup takes one of the B * (Hq + Hk) * M rows of D elements, the queries first.
//
// Grid: at least B * (Hq + Hk) * M * 32 threads in x, in threadgroups of a multiple of 32.
#include <metal_stdlib>
using namespace metal;

#ifndef KD_DTYPE
#define KD_DTYPE 1  // of the arrays: 0 float, 1 half, 2 bfloat
#endif
#ifndef KD_ALIGNED
#define KD_ALIGNED 1  // 0: arrays start anywhere, 1: at a multiple of 16 bytes
#endif

#define VEC 1
#include "../../common/packs.metal.h"
#include "../rotate.metal.h"

[[kernel]] void mlx_kd_qk_norm_rope(
    const device T* q [[buffer(0)]],
    const device T* k [[buffer(1)]],
    const device int* offset [[buffer(2)]],
    const device T* wq [[buffer(3)]],
    const device T* wk [[buffer(4)]],
    const device float* freqs [[buffer(5)]],
    device T* q_out [[buffer(6)]],
    device T* k_out [[buffer(7)]],
    const constant long* q_strides [[buffer(8)]],
    const constant long* k_strides [[buffer(9)]],
    constant float& eps [[buffer(10)]],
    constant float& base [[buffer(11)]],
    constant float& scale [[buffer(12)]],
    constant int& M [[buffer(13)]],
    constant int& B [[buffer(14)]],
    constant int& Hq [[buffer(15)]],
    constant int& Hk [[buffer(16)]],
    constant int& D [[buffer(17)]],
    constant int& dims [[buffer(18)]],
    constant int& traditional [[buffer(19)]],
    constant int& ragged [[buffer(20)]],
    constant int& has_freqs [[buffer(21)]],
    constant int& has_wq [[buffer(22)]],
    constant int& has_wk [[buffer(23)]],
    uint3 thread_position_in_grid [[thread_position_in_grid]]) {
  const uint all = thread_position_in_grid.x / 32;
  const uint queries = uint(B) * uint(Hq) * uint(M);
  if (all >= queries + uint(B) * uint(Hk) * uint(M)) return;
  const bool is_query = all < queries;
  const uint row = is_query ? all : all - queries;
  const uint heads = uint(is_query ? Hq : Hk);
  const uint t = row % uint(M);
  const uint h = row / uint(M) % heads;
  const uint b = row / uint(M) / heads;
  Rotation how;
  how.dims = dims;
  how.width = D;
  how.interleaved = traditional != 0;
  how.normed = (is_query ? has_wq : has_wk) != 0;
  how.log2_base = precise::log2(base);
  how.position = float(offset[ragged != 0 ? b : 0] + int(t)) * scale;
  how.eps = eps;
  const constant long* strides = is_query ? q_strides : k_strides;
  const device T* from =
      (is_query ? q : k) + long(b) * strides[0] + long(h) * strides[1] + long(t) * strides[2];
  turn_row(how, from, is_query ? wq : wk, freqs, has_freqs != 0,
           (is_query ? q_out : k_out) + ulong(row) * uint(D), thread_position_in_grid.x % 32);
}
