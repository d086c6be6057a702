#include <metal_stdlib>
using namespace metal;

// Every operation on int and uint in threadgroup memory.
kernel void atomic_ints(device const int* x, device int* y, uint t [[thread_position_in_threadgroup]]) {
  threadgroup atomic_int cells[7];
  threadgroup atomic_uint last;
  if (t < 7) atomic_store_explicit(&cells[t], t == 3 ? -1 : 0, memory_order_relaxed);
  if (t == 7) atomic_store_explicit(&last, 100u, memory_order_relaxed);
  threadgroup_barrier(mem_flags::mem_threadgroup);
  atomic_fetch_add_explicit(&cells[0], x[t], memory_order_relaxed);
  atomic_fetch_sub_explicit(&cells[1], x[t], memory_order_relaxed);
  atomic_fetch_max_explicit(&cells[2], x[t], memory_order_relaxed);
  atomic_fetch_and_explicit(&cells[3], x[t], memory_order_relaxed);
  atomic_fetch_or_explicit(&cells[4], x[t], memory_order_relaxed);
  atomic_fetch_xor_explicit(&cells[5], x[t], memory_order_relaxed);
  atomic_fetch_min_explicit(&cells[6], x[t], memory_order_relaxed);
  atomic_fetch_min_explicit(&last, t, memory_order_relaxed);
  threadgroup_barrier(mem_flags::mem_threadgroup);
  if (t < 7) y[t] = atomic_load_explicit(&cells[t], memory_order_relaxed);
  if (t == 7) y[7] = atomic_exchange_explicit(&last, 5u, memory_order_relaxed);
}

kernel void atomic_uints(device const uint* x, device atomic_uint* y, uint i [[thread_position_in_grid]]) {
  atomic_fetch_add_explicit(&y[0], x[i], memory_order_relaxed);
  atomic_fetch_max_explicit(&y[1], x[i], memory_order_relaxed);
  atomic_fetch_min_explicit(&y[2], x[i], memory_order_relaxed);
  atomic_fetch_or_explicit(y + 3, 1u << (x[i] & 31), memory_order_relaxed);
  atomic_fetch_xor_explicit(y + 4, x[i] * 2654435761u, memory_order_relaxed);
}

// The largest float, by compare and exchange of its own type.
kernel void float_most(device const float* x, device atomic<float>* most,
                       uint i [[thread_position_in_grid]]) {
  float seen = atomic_load_explicit(most, memory_order_relaxed);
  while (x[i] > seen && !atomic_compare_exchange_weak_explicit(
                            most, &seen, x[i], memory_order_relaxed, memory_order_relaxed)) {
  }
}

// Value and index in one 64-bit number.
kernel void ulong_most(device const uint* x, device atomic_ulong* most, uint i [[thread_position_in_grid]]) {
  atomic_max_explicit(most, (ulong(x[i]) << 32) | i, memory_order_relaxed);
}

// Keeps what is above zero, in order: places within the group by votes, one block a simdgroup.
kernel void compact(device const float* x, device float* y, device atomic_uint* used,
                    uint t [[thread_position_in_threadgroup]], uint lane [[thread_index_in_simdgroup]],
                    uint sg [[simdgroup_index_in_threadgroup]]) {
  threadgroup uint counts[4];
  bool keep = x[t] > 0;
  uint votes = uint(ulong(simd_ballot(keep)));
  if (lane == 0) {
    counts[sg] = popcount(votes);
    atomic_fetch_add_explicit(used, popcount(votes), memory_order_relaxed);
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  uint before = popcount(votes & ((1u << lane) - 1));
  for (uint k = 0; k < sg; ++k) before += counts[k];
  if (keep) y[before] = x[t];
}

// The last group to come adds what all have left; partial sums are atomics, read behind a fence.
kernel void last_group_sum(device const uint* x, device atomic_uint* partial, device atomic_uint* done,
                           device uint* y, uint i [[thread_position_in_grid]],
                           uint t [[thread_position_in_threadgroup]],
                           uint g [[threadgroup_position_in_grid]],
                           uint groups [[threadgroups_per_grid]]) {
  threadgroup atomic_uint sum;
  threadgroup uint last;
  if (t == 0) atomic_store_explicit(&sum, 0u, memory_order_relaxed);
  threadgroup_barrier(mem_flags::mem_threadgroup);
  atomic_fetch_add_explicit(&sum, x[i], memory_order_relaxed);
  threadgroup_barrier(mem_flags::mem_threadgroup);
  if (t == 0) {
    atomic_store_explicit(&partial[g], atomic_load_explicit(&sum, memory_order_relaxed), memory_order_relaxed);
    atomic_thread_fence(mem_flags::mem_device, memory_order_seq_cst, thread_scope_device);
    last = atomic_fetch_add_explicit(done, 1u, memory_order_relaxed) + 1 == groups;
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  if (last && t == 0) {
    uint all = 0;
    atomic_thread_fence(mem_flags::mem_device, memory_order_seq_cst, thread_scope_device);
    for (uint k = 0; k < groups; ++k) all += atomic_load_explicit(&partial[k], memory_order_relaxed);
    y[0] = all;
  }
}

// An open table of keys in threadgroup memory: counts of 64 keys, then out by key.
kernel void hash_count(device const uint* x, device atomic_uint* counts, uint t [[thread_position_in_threadgroup]]) {
  threadgroup atomic_uint keys[128];
  threadgroup atomic_uint found[128];
  atomic_store_explicit(&keys[t], 0xffffffffu, memory_order_relaxed);
  atomic_store_explicit(&found[t], 0u, memory_order_relaxed);
  threadgroup_barrier(mem_flags::mem_threadgroup);
  for (uint k = 0; k < 4; ++k) {
    uint key = x[4 * t + k] % 64, at = key * 37 % 128;
    while (true) {
      uint free = 0xffffffffu;
      if (atomic_compare_exchange_weak_explicit(&keys[at], &free, key, memory_order_relaxed, memory_order_relaxed) ||
          free == key)
        break;
      at = (at + 1) % 128;
    }
    atomic_fetch_add_explicit(&found[at], 1u, memory_order_relaxed);
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  uint key = atomic_load_explicit(&keys[t], memory_order_relaxed);
  if (key < 64)
    atomic_fetch_add_explicit(&counts[key], atomic_load_explicit(&found[t], memory_order_relaxed), memory_order_relaxed);
}

// Which of 64 values occur: a sieve of flags.
kernel void atomic_flags(device const uint* x, device uchar* y, uint t [[thread_position_in_threadgroup]]) {
  threadgroup atomic_bool seen[64];
  if (t < 64) atomic_store_explicit(&seen[t], false, memory_order_relaxed);
  threadgroup_barrier(mem_flags::mem_threadgroup);
  atomic_store_explicit(&seen[x[t] % 64], true, memory_order_relaxed);
  threadgroup_barrier(mem_flags::mem_threadgroup);
  if (t < 64) y[t] = atomic_load_explicit(&seen[t], memory_order_relaxed) ? 1 : 0;
}
