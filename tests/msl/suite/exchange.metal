#include <metal_stdlib>
using namespace metal;

kernel void histogram(device const uchar* x, device atomic_uint* bins,
                      uint i [[thread_position_in_grid]], uint t [[thread_position_in_threadgroup]]) {
  threadgroup atomic_uint local[256];
  atomic_store_explicit(&local[t], 0, memory_order_relaxed);
  threadgroup_barrier(mem_flags::mem_threadgroup);
  atomic_fetch_add_explicit(&local[x[i]], 1, memory_order_relaxed);
  threadgroup_barrier(mem_flags::mem_threadgroup);
  uint count = atomic_load_explicit(&local[t], memory_order_relaxed);
  atomic_fetch_add_explicit(&bins[t], count, memory_order_relaxed);
}

kernel void float_add(device const float* x, device atomic_float* sum,
                      uint i [[thread_position_in_grid]]) {
  atomic_fetch_add_explicit(sum, x[i], memory_order_relaxed);
}

kernel void exchange_max(device const float* x, device atomic_uint* most,
                         uint i [[thread_position_in_grid]]) {
  uint mine = as_type<uint>(x[i]);
  uint seen = atomic_load_explicit(most, memory_order_relaxed);
  while (mine > seen &&
         !atomic_compare_exchange_weak_explicit(most, &seen, mine, memory_order_relaxed,
                                                memory_order_relaxed)) {
  }
}

kernel void bitonic(device const int* x, device int* y, uint t [[thread_position_in_threadgroup]],
                    uint i [[thread_position_in_grid]], uint size [[threads_per_threadgroup]]) {
  threadgroup int s[256];
  s[t] = x[i];
  threadgroup_barrier(mem_flags::mem_threadgroup);
  for (uint k = 2; k <= size; k *= 2)
    for (uint j = k / 2; j > 0; j /= 2) {
      uint other = t ^ j;
      int mine = s[t], theirs = s[other];
      bool up = (t & k) == 0;
      bool low = t < other;
      threadgroup_barrier(mem_flags::mem_threadgroup);
      s[t] = (up == low) ? min(mine, theirs) : max(mine, theirs);
      threadgroup_barrier(mem_flags::mem_threadgroup);
    }
  y[i] = s[t];
}

kernel void votes(device const uint* x, device uint* y, uint i [[thread_position_in_grid]]) {
  bool odd = x[i] & 1;
  uint r = popcount(uint(ulong(simd_ballot(odd))));
  r += simd_all(odd) ? 1000u : 0u;
  r += simd_any(odd) ? 100u : 0u;
  r += quad_sum(x[i]) * 10000u;
  y[i] = r;
}

kernel void shuffles(device const int* x, device int* y, uint i [[thread_position_in_grid]],
                     ushort lane [[thread_index_in_simdgroup]]) {
  int v = x[i];
  int r = simd_shuffle_xor(v, 1) + 2 * simd_broadcast(v, 3) + 3 * simd_shuffle_rotate_down(v, 5);
  r += simd_shuffle_and_fill_up(v, 7, 4) + quad_shuffle_xor(v, 2) + simd_broadcast_first(v);
  y[i] = r + simd_prefix_exclusive_sum(v) + simd_xor(v) + simd_min(v);
}

kernel void bits(device const uint* x, device uint* y, uint i [[thread_position_in_grid]]) {
  uint v = x[i];
  y[i] = popcount(v) + clz(v) * 64 + ctz(v) * 4096 + (reverse_bits(v) ^ rotate(v, 5u)) +
         mulhi(v, 0x10001u) + absdiff(v, 77u) + insert_bits(v, 5u, 3u, 4u);
}

// Lanes above 15 leave the simdgroup: those that stay exchange among themselves.
kernel void diverged(device const float* x, device float* y, uint i [[thread_position_in_grid]],
                     uint lane [[thread_index_in_simdgroup]]) {
  if (lane < 16)
    y[i] = simd_sum(x[i]);
  else
    y[i] = simd_max(x[i]);
}
