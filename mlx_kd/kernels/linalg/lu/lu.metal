// lu: P A = L U of each matrix of a batch, with partial pivoting.
//
// A threadgroup of THREADS threads factors one matrix: in threadgroup memory if it fits into HELD
// floats, else in scratch memory (eliminate.metal.h).
//
// Grid: batch * THREADS threads in x, threadgroup: THREADS. scratch0: batch * n * width floats.
#include <metal_stdlib>
using namespace metal;

#ifndef THREADS
#define THREADS 128  // of a matrix
#endif
#ifndef HELD
#define HELD 4096  // floats of a matrix in threadgroup memory at most
#endif

#define BAD_PIVOT(SIZE) ((SIZE) < 0.0f)  // a column of zeros has an L of 0
#include "../eliminate.metal.h"

// One thread keeps the order of the rows.
#define NOTE(COLUMN, ROW)                         \
  if (index == 0) {                               \
    to_pivots[COLUMN] = uint(ROW);                \
    const uint kept = to_order[COLUMN];           \
    to_order[COLUMN] = to_order[ROW];             \
    to_order[ROW] = kept;                         \
  }
#define FACTOR(W, W_FLAG)                                                          \
    for (int e = index; e < m * n; e += THREADS) W[e] = from[e];                   \
    threadgroup_barrier(W_FLAG);                                                   \
    ELIMINATE(W, W_FLAG)                                                           \
    if (failed == 0 && n > steps) {  /* columns that no pivot is taken from */     \
      int first = n;                                                               \
      for (int e = index; e < m * (n - steps); e += THREADS) {                     \
        const int j = steps + e % (n - steps);                                     \
        const uint bits = as_type<uint>(from[e / (n - steps) * n + j]);            \
        first = (bits & 0x7f800000u) == 0x7f800000u ? min(first, j) : first;       \
      }                                                                            \
      rows[index] = first;                                                         \
      threadgroup_barrier(mem_flags::mem_threadgroup);                             \
      for (int t = 0; t < THREADS; ++t) first = min(first, rows[t]);               \
      failed = first < n ? first + 1 : 0;                                          \
    }                                                                              \
    for (int e = index; e < m * n; e += THREADS) to[e] = failed != 0 ? NAN : W[e]; \
    if (index == 0) {                                                              \
      info[which] = failed;                                                        \
      for (int i = 0; i < m && failed != 0; ++i) to_order[i] = uint(i);            \
      for (int i = 0; i < steps && failed != 0; ++i) to_pivots[i] = uint(i);       \
    }

[[max_total_threads_per_threadgroup(THREADS)]] [[kernel]] void mlx_kd_lu(
    const device float* a [[buffer(0)]],
    device float* lu [[buffer(1)]],
    device uint* pivots [[buffer(2)]],
    device uint* permutation [[buffer(3)]],
    device int* info [[buffer(4)]],
    device float* scratch0 [[buffer(5)]],
    constant int& m [[buffer(6)]],
    constant int& n [[buffer(7)]],
    uint3 threadgroup_position_in_grid [[threadgroup_position_in_grid]],
    uint3 thread_position_in_threadgroup [[thread_position_in_threadgroup]]) {
  threadgroup float held[HELD];
  threadgroup float sizes[THREADS];
  threadgroup int rows[THREADS];
  const int index = int(thread_position_in_threadgroup.x);
  const ulong which = ulong(threadgroup_position_in_grid.x);
  const int steps = min(m, n);
  const int width = n;
  const device float* from = a + which * ulong(m) * ulong(n);
  device float* to = lu + which * ulong(m) * ulong(n);
  device uint* to_pivots = pivots + which * ulong(steps);
  device uint* to_order = permutation + which * ulong(m);
  device float* w = scratch0 + which * ulong(m) * ulong(width);
  int failed = 0;
  if (index == 0)
    for (int i = 0; i < m; ++i) to_order[i] = uint(i);
  if (m * width <= HELD) {
    FACTOR(held, mem_flags::mem_threadgroup)
  } else {
    FACTOR(w, mem_flags::mem_device | mem_flags::mem_threadgroup)
  }
}
