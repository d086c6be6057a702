// Decode pack of latent attention: the nope part is copied, the rope part rotated in interleaved
// pairs, (a, b) -> (a c - b s, a s + b c), for B x H_Q queries and B keys of one position.
//
// A thread takes UNROLL packs of VEC elements of the outputs, a grid apart. Packs never hold both
// parts: where VEC divides neither D_NOPE nor D_ROPE, elements are computed one by one.
//
// Grid: at least ceil(B * (H_Q + 1) * ceil(D_OUT / VEC) / UNROLL) threads in x, in threadgroups of
// any size.
// The host names of thread positions and ports are those of metal_kernel, so that the body of the
// function is one for it; docs/metal.md says what that takes.
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
#ifndef FUSE
#define FUSE 0  // 1: the second product is not rounded
#endif

#include "../../common/packs.metal.h"
#if KD_ALIGNED == 0
#define HALF_BYTES T_BYTES
#elif VEC * T_BYTES / 2 < 16
#define HALF_BYTES VEC * T_BYTES / 2
#else
#define HALF_BYTES 16
#endif
#if FUSE
#define TURNED_A(a, b, c, s) T(fma(float(a), float(c), -(float(b) * float(s))))
#define TURNED_B(a, b, c, s) T(fma(float(a), float(s), float(b) * float(c)))
#else
#define TURNED_A(a, b, c, s) T(float(a) * float(c) - float(b) * float(s))
#define TURNED_B(a, b, c, s) T(float(a) * float(s) + float(b) * float(c))
#endif

[[kernel]] void mlx_kd_rope(
    const device T* q_nope [[buffer(0)]],
    const device T* q_rope [[buffer(1)]],
    const device T* kv_nope [[buffer(2)]],
    const device T* k_rope [[buffer(3)]],
    const device T* cos [[buffer(4)]],
    const device T* sin [[buffer(5)]],
    device T* q_out [[buffer(6)]],
    device T* k_out [[buffer(7)]],
    constant int& B [[buffer(8)]],
    constant int& H_Q [[buffer(9)]],
    constant int& D_NOPE [[buffer(10)]],
    constant int& D_ROPE [[buffer(11)]],
    uint3 threads_per_grid [[threads_per_grid]],
    uint3 thread_position_in_grid [[thread_position_in_grid]]) {
#if VEC > 1
  struct alignas(PACK_BYTES) Pack {
    T at[VEC];
  };
  struct alignas(HALF_BYTES) Angles {
    T at[VEC / 2];
  };
#endif
  const uint width = uint(D_NOPE) + uint(D_ROPE);
  const uint packs = (width + VEC - 1) / VEC;  // of a head
  const uint queries = uint(B) * uint(H_Q);
  const uint total = (queries + uint(B)) * packs;
#pragma unroll
  for (uint k = 0; k < UNROLL; ++k) {
    const uint i = thread_position_in_grid.x + k * threads_per_grid.x;
    if (i < total) {
      const uint head = i / packs;
      const uint start = i % packs * VEC;  // in the head
      const bool query = head < queries;
      const uint row = query ? head : head - queries;
      const device T* nope = (query ? q_nope : kv_nope) + ulong(row) * uint(D_NOPE);
      const device T* turn = (query ? q_rope : k_rope) + ulong(row) * uint(D_ROPE);
      device T* y = (query ? q_out : k_out) + ulong(row) * width;
#if VEC > 1
      if (uint(D_NOPE) % VEC == 0 && uint(D_ROPE) % VEC == 0) {
        device Pack* made = reinterpret_cast<device Pack*>(y + start);
        if (start < uint(D_NOPE)) {
          *made = *reinterpret_cast<const device Pack*>(nope + start);
        } else {
          const uint at = start - uint(D_NOPE);
          const Pack x = *reinterpret_cast<const device Pack*>(turn + at);
          const Angles c = *reinterpret_cast<const device Angles*>(cos + at / 2);
          const Angles s = *reinterpret_cast<const device Angles*>(sin + at / 2);
          Pack turned;
#pragma unroll
          for (uint p = 0; p < VEC / 2; ++p) {
            turned.at[2 * p] = TURNED_A(x.at[2 * p], x.at[2 * p + 1], c.at[p], s.at[p]);
            turned.at[2 * p + 1] = TURNED_B(x.at[2 * p], x.at[2 * p + 1], c.at[p], s.at[p]);
          }
          *made = turned;
        }
        continue;
      }
#endif
#pragma unroll
      for (uint v = 0; v < VEC; ++v) {
        const uint j = start + v;
        if (j < uint(D_NOPE)) {
          y[j] = nope[j];
        } else if (j < width) {
          const uint at = (j - uint(D_NOPE)) / 2;
          const T a = turn[2 * at];
          const T b = turn[2 * at + 1];
          if ((j - uint(D_NOPE)) % 2 == 0)
            y[j] = TURNED_A(a, b, cos[at], sin[at]);
          else
            y[j] = TURNED_B(a, b, cos[at], sin[at]);
        }
      }
    }
  }
}
