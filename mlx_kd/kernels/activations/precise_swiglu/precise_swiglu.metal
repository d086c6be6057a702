// y = gate * sigmoid(gate) * up, element by element.
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
#ifndef FAST
#define FAST 0  // 1: fast::exp and fast::divide
#endif

#include "../../common/packs.metal.h"
#if FAST
#define GATED(number, z) fast::divide(number, 1.0f + fast::exp(-(z)))
#else
#define GATED(number, z) precise::divide(number, 1.0f + precise::exp(-(z)))
#endif
#define FIRST gate
#define SECOND up
#define MADE(g, u) (GATED(g, g) * (u))

[[kernel]] void mlx_kd_precise_swiglu(
    const device T* gate [[buffer(0)]],
    const device T* up [[buffer(1)]],
    device T* out [[buffer(2)]],
    constant int64_t& N [[buffer(3)]],
    uint3 threads_per_grid [[threads_per_grid]],
    uint3 thread_position_in_grid [[thread_position_in_grid]]) {
#include "../gates.metal.h"
}
