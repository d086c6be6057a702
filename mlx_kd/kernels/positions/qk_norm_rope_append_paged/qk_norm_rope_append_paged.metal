// Heads of queries and keys, each normed by its weight if there is one, then rotated by its position;
// keys go into pages, in place, as do values.
//
// A simdgroup takes one of the B * (Hq + 2 Hk) * M rows, the queries first, then the keys. Slot s is row
// s % L of page s / L; what has a slot outside is not written.
//
// Grid: at least B * (Hq + 2 Hk) * M * 32 threads in x, in threadgroups of a multiple of 32.
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

[[kernel]] void mlx_kd_qk_norm_rope_append_paged(
    const device T* q [[buffer(0)]],
    const device T* k [[buffer(1)]],
    const device T* v [[buffer(2)]],
    const device int* slots [[buffer(3)]],
    const device int* offset [[buffer(4)]],
    const device T* wq [[buffer(5)]],
    const device T* wk [[buffer(6)]],
    const device float* freqs [[buffer(7)]],
    device T* key_pages_out [[buffer(8)]],
    device T* value_pages_out [[buffer(9)]],
    device T* q_out [[buffer(10)]],
    const constant long* q_strides [[buffer(11)]],
    const constant long* k_strides [[buffer(12)]],
    const constant long* v_strides [[buffer(13)]],
    constant float& eps [[buffer(14)]],
    constant float& base [[buffer(15)]],
    constant float& scale [[buffer(16)]],
    constant int& P [[buffer(17)]],
    constant int& L [[buffer(18)]],
    constant int& B [[buffer(19)]],
    constant int& Hq [[buffer(20)]],
    constant int& Hk [[buffer(21)]],
    constant int& M [[buffer(22)]],
    constant int& D [[buffer(23)]],
    constant int& Dv [[buffer(24)]],
    constant int& dims [[buffer(25)]],
    constant int& traditional [[buffer(26)]],
    constant int& ragged [[buffer(27)]],
    constant int& has_freqs [[buffer(28)]],
    constant int& has_wq [[buffer(29)]],
    constant int& has_wk [[buffer(30)]],
    uint3 thread_position_in_grid [[thread_position_in_grid]]) {
  const uint lane = thread_position_in_grid.x % 32;
  const uint all = thread_position_in_grid.x / 32;
  const uint queries = uint(B) * uint(Hq) * uint(M);
  const uint keys = uint(B) * uint(Hk) * uint(M);
  if (all >= queries + 2 * keys) return;
  const bool is_query = all < queries;
  const bool is_value = all >= queries + keys;
  const uint row = all - (is_query ? 0 : is_value ? queries + keys : queries);
  const uint heads = uint(is_query ? Hq : Hk);
  const uint t = row % uint(M);
  const uint h = row / uint(M) % heads;
  const uint b = row / uint(M) / heads;
  const int first = offset[ragged != 0 ? b : 0];
  const int slot = slots[b * uint(M) + t];
  if (!is_query && (slot < 0 || slot >= P * L)) return;
  const constant long* strides = is_query ? q_strides : is_value ? v_strides : k_strides;
  const device T* from = (is_query ? q : is_value ? v : k) + long(b) * strides[0] +
                         long(h) * strides[1] + long(t) * strides[2];
  // Rows of q_out and of the pages.
  const ulong to = is_query ? ulong(row)
                            : (ulong(slot / L) * uint(Hk) + h) * uint(L) + uint(slot % L);
  if (is_value) {
    for (uint i = lane; i < uint(Dv); i += 32) value_pages_out[to * uint(Dv) + i] = from[i];
    return;
  }
  Rotation how;
  how.dims = dims;
  how.width = D;
  how.interleaved = traditional != 0;
  how.normed = (is_query ? has_wq : has_wk) != 0;
  how.log2_base = precise::log2(base);
  how.position = float(first + int(t)) * scale;
  how.eps = eps;
  turn_row(how, from, is_query ? wq : wk, freqs, has_freqs != 0,
           (is_query ? q_out : key_pages_out) + to * uint(D), lane);
}
