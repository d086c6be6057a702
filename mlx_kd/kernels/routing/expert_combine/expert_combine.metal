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
#ifndef KD_TYPE_weights
#define KD_TYPE_weights KD_DTYPE  // of the weights: KD_DTYPE, or 0: float
#endif
#ifndef KD_ALIGNED
#define KD_ALIGNED 1  // 0: arrays start anywhere, 1: at a multiple of 16 bytes
#endif
#ifndef UNROLL
#define UNROLL 1  // columns of a thread
#endif
#define VEC 1

#include "../../common/packs.metal.h"
#if KD_TYPE_weights == 0
typedef float W;
#else
typedef T W;
#endif

[[kernel]] void mlx_kd_expert_combine(
    const device T* x [[buffer(0)]],
    const device W* weights [[buffer(1)]],
    device T* y [[buffer(2)]],
    constant int& M [[buffer(3)]],
    constant int& A [[buffer(4)]],
    constant int& D [[buffer(5)]],
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
        const float product =
            float(x[(row * chosen + k) * columns + column]) * float(weights[row * chosen + k]);
        sum += float(W(product));
      }
      y[i] = T(sum);
    }
  }
}
