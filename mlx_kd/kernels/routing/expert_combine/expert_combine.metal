// y = sum over k of w_k y_k, the results of the chosen experts by their weights. A product is rounded
// to the wider type of the two, as MLX rounds it; the sum is float and rounded once.
//
// A thread takes UNROLL columns of one token, a grid apart. Grid: at least M * D / UNROLL threads in x,
// in threadgroups of any size. The host names of thread positions and ports are those of metal_kernel.
#include <metal_stdlib>
using namespace metal;

#ifndef KD_DTYPE
#define KD_DTYPE 1  // of x and y: 0 float, 1 half, 2 bfloat
#endif
#ifndef KD_ALIGNED
#define KD_ALIGNED 1  // 0: arrays start anywhere, 1: at a multiple of 16 bytes
#endif
#ifndef UNROLL
#define UNROLL 1  // columns of a thread
#endif
#define VEC 1

#include "../../common/packs.metal.h"

[[kernel]] void mlx_kd_expert_combine(
    const device T* x [[buffer(0)]],
    const device T* weights [[buffer(1)]],
    device T* y [[buffer(2)]],
    constant int& M [[buffer(3)]],
    constant int& A [[buffer(4)]],
    constant int& D [[buffer(5)]],
    constant int& wide [[buffer(6)]],
    uint3 threads_per_grid [[threads_per_grid]],
    uint3 thread_position_in_grid [[thread_position_in_grid]]) {
  const ulong columns = ulong(D), chosen = ulong(A);
#pragma unroll
  for (uint u = 0; u < UNROLL; ++u) {
    const ulong i = ulong(thread_position_in_grid.x) + ulong(u) * threads_per_grid.x;
    if (i < ulong(M) * columns) {
      const ulong row = i / columns, column = i % columns;
      float sum = 0.0f;
      for (ulong k = 0; k < chosen; ++k) {
        const ulong pair = row * chosen + k;
        const float value = float(x[pair * columns + column]);
        if (wide != 0)
          sum += value * reinterpret_cast<const device float*>(weights)[pair];
        else
          sum += float(T(value * float(weights[pair])));
      }
      y[i] = T(sum);
    }
  }
}
