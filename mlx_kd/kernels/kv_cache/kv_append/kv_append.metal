// kv_append: new rows of keys and values are written into a cache, in place.
//
// A thread copies UNROLL packs of VEC elements, a grid apart. A batch row whose offset is negative
// or above S - M is not written. Rows whose length or strides are no multiples of VEC are copied
// element by element.
//
// Grid: at least ceil(B * H * M * (ceil(Dk / VEC) + ceil(Dv / VEC)) / UNROLL) threads in x, in
// threadgroups of any size.
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

[[kernel]] void mlx_kd_kv_append(
    const device T* new_keys [[buffer(0)]],
    const device T* new_values [[buffer(1)]],
    const device int* offset [[buffer(2)]],
    device T* keys_out [[buffer(3)]],
    device T* values_out [[buffer(4)]],
    const constant long* new_keys_strides [[buffer(5)]],
    const constant long* new_values_strides [[buffer(6)]],
    constant int& S [[buffer(7)]],
    constant int& B [[buffer(8)]],
    constant int& H [[buffer(9)]],
    constant int& M [[buffer(10)]],
    constant int& Dk [[buffer(11)]],
    constant int& Dv [[buffer(12)]],
    constant int& ragged [[buffer(13)]],
    uint3 threads_per_grid [[threads_per_grid]],
    uint3 thread_position_in_grid [[thread_position_in_grid]]) {
#if VEC > 1
  struct alignas(PACK_BYTES) Pack {
    T at[VEC];
  };
#endif
  const uint key_packs = (uint(Dk) + VEC - 1) / VEC;  // of a row
  const uint packs = key_packs + (uint(Dv) + VEC - 1) / VEC;
  const uint total = uint(B) * uint(H) * uint(M) * packs;
#pragma unroll
  for (uint k = 0; k < UNROLL; ++k) {
    const uint i = thread_position_in_grid.x + k * threads_per_grid.x;
    if (i < total) {
      const uint row = i / packs;
      const uint pack = i % packs;
      const uint t = row % uint(M);
      const uint head = row / uint(M);
      const uint b = head / uint(H);
      const int first = offset[ragged != 0 ? b : 0];
      if (first >= 0 && first <= S - M) {
        const bool key = pack < key_packs;
        const uint start = (key ? pack : pack - key_packs) * VEC;  // in the row
        const uint width = uint(key ? Dk : Dv);
        const constant long* strides = key ? new_keys_strides : new_values_strides;
        const long from = long(b) * strides[0] + long(head % uint(H)) * strides[1] +
                          long(t) * strides[2] + long(start);
        const ulong to =
            (ulong(head) * ulong(S) + ulong(first) + ulong(t)) * ulong(width) + ulong(start);
        const device T* x = (key ? new_keys : new_values) + from;
        device T* y = (key ? keys_out : values_out) + to;
#if VEC > 1
        if (width % VEC == 0 && from % VEC == 0) {
          *reinterpret_cast<device Pack*>(y) = *reinterpret_cast<const device Pack*>(x);
          continue;
        }
#endif
#pragma unroll
        for (uint v = 0; v < VEC; ++v)
          if (start + v < width) y[v] = x[v];
      }
    }
  }
}
