// Rotary position embedding of heads.
//
// A simdgroup takes one of the B * H * M rows of D elements.
//
// Grid: at least B * H * M * 32 threads in x, in threadgroups of a multiple of 32.
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

[[kernel]] void mlx_kd_rope_standard(
    const device T* x [[buffer(0)]],
    const device int* offset [[buffer(1)]],
    const device float* freqs [[buffer(2)]],
    device T* y [[buffer(3)]],
    const constant long* x_strides [[buffer(4)]],
    constant float& base [[buffer(5)]],
    constant float& scale [[buffer(6)]],
    constant int& M [[buffer(7)]],
    constant int& B [[buffer(8)]],
    constant int& H [[buffer(9)]],
    constant int& D [[buffer(10)]],
    constant int& dims [[buffer(11)]],
    constant int& traditional [[buffer(12)]],
    constant int& ragged [[buffer(13)]],
    constant int& has_freqs [[buffer(14)]],
    uint3 thread_position_in_grid [[thread_position_in_grid]]) {
  const uint row = thread_position_in_grid.x / 32;
  if (row >= uint(B) * uint(H) * uint(M)) return;
  const uint t = row % uint(M);
  const uint h = row / uint(M) % uint(H);
  const uint b = row / uint(M) / uint(H);
  Rotation how;
  how.dims = dims;
  how.width = D;
  how.interleaved = traditional != 0;
  how.normed = false;
  how.log2_base = precise::log2(base);
  how.position = float(offset[ragged != 0 ? b : 0] + int(t)) * scale;
  how.eps = 0.0f;
  const device T* from = x + long(b) * x_strides[0] + long(h) * x_strides[1] + long(t) * x_strides[2];
  turn_row(how, from, from, freqs, has_freqs != 0, y + ulong(row) * uint(D),
           thread_position_in_grid.x % 32);
}
