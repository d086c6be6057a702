// y = max(x, 0)^2, element by element.
//
// Grid: at least ceil(N / (VEC * UNROLL)) threads in x, in threadgroups of any size.
// The host names of thread positions and ports are those of metal_kernel.
#include <metal_stdlib>
using namespace metal;

#ifndef KD_DTYPE
#define KD_DTYPE 1  // of the arrays: 0 float, 1 half, 2 bfloat
#endif
#ifndef KD_ALIGNED
#define KD_ALIGNED 1  // 0: arrays start anywhere, 1: at a multiple of 16 bytes
#endif
#ifndef VEC
#define VEC 4  // elements of a pack: 1, 2, 4, 8
#endif
#ifndef UNROLL
#define UNROLL 1  // packs of a thread
#endif

#include "../../common/packs.metal.h"
#define FIRST inp
#define SECOND inp
// NaN stays NaN.
#define RELU(x) ((x) < 0.0f ? 0.0f : (x))
#define MADE(a, b) (RELU(a) * RELU(b))

[[kernel]] void mlx_kd_relu2(
    const device T* inp [[buffer(0)]],
    device T* out [[buffer(1)]],
    constant int64_t& N [[buffer(2)]],
    uint3 threads_per_grid [[threads_per_grid]],
    uint3 thread_position_in_grid [[thread_position_in_grid]]) {
#include "../gates.metal.h"
}
