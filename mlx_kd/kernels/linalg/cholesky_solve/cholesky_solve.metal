// cholesky_solve: L L^T X = B for each L of a batch, or U^T U X = B.
//
// A threadgroup of THREADS threads takes one matrix: [T, B] is in threadgroup memory if it fits into HELD
// floats, else in scratch memory (substitute.metal.h).
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

#include "../substitute.metal.h"

#define SOLVE(W, W_FLAG)                                                                           \
    for (int e = index; e < n * width; e += THREADS) {                                             \
      const int i = e / width;                                                                     \
      const int j = e % width;                                                                     \
      if (j >= n)                                                                                  \
        W[e] = from_b[i * k + j - n];                                                              \
      else if (upper != 0 ? j >= i : j <= i)                                                       \
        W[e] = from[i * n + j];                                                                    \
    }                                                                                              \
    threadgroup_barrier(W_FLAG);                                                                   \
    if (upper == 0) {                                                                              \
      SUBSTITUTE(W, W_FLAG, true, width, 1)                                                        \
      SUBSTITUTE(W, W_FLAG, false, 1, width)                                                       \
    } else {                                                                                       \
      SUBSTITUTE(W, W_FLAG, true, 1, width)                                                        \
      SUBSTITUTE(W, W_FLAG, false, width, 1)                                                       \
    }                                                                                              \
    for (int e = index; e < n * sides; e += THREADS) to[e] = W[e / sides * width + n + e % sides];

[[max_total_threads_per_threadgroup(THREADS)]] [[kernel]] void mlx_kd_cholesky_solve(
    const device float* a [[buffer(0)]],
    const device float* b [[buffer(1)]],
    device float* x [[buffer(2)]],
    device int* info [[buffer(3)]],
    device float* scratch0 [[buffer(4)]],
    constant int& n [[buffer(5)]],
    constant int& k [[buffer(6)]],
    constant int& upper [[buffer(7)]],
    uint3 threadgroup_position_in_grid [[threadgroup_position_in_grid]],
    uint3 thread_position_in_threadgroup [[thread_position_in_threadgroup]]) {
  threadgroup float held[HELD];
  threadgroup int rows[THREADS];
  const int index = int(thread_position_in_threadgroup.x);
  const ulong which = ulong(threadgroup_position_in_grid.x);
  const int sides = k;
  const int width = n + sides;
  const bool is_unit = false;
  const device float* from = a + which * ulong(n) * ulong(n);
  const device float* from_b = b + which * ulong(n) * ulong(k);
  device float* to = x + which * ulong(n) * ulong(sides);
  device float* w = scratch0 + which * ulong(n) * ulong(width);
  int bad = n;
  for (int i = index; i < n; i += THREADS) {
    const int begin = upper != 0 ? i : 0;
    const int end = upper != 0 ? n : i + 1;
    bool is_good = is_unit || from[i * n + i] != 0.0f;
    for (int j = begin; j < end; ++j)
      if (!is_unit || j != i)
        is_good = is_good && (as_type<uint>(from[i * n + j]) & 0x7f800000u) != 0x7f800000u;
    if (!is_good) bad = min(bad, i);
  }
  rows[index] = bad;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  for (int t = 0; t < THREADS; ++t) bad = min(bad, rows[t]);
  if (index == 0) info[which] = bad < n ? bad + 1 : 0;
  if (bad < n) {
    for (int e = index; e < n * sides; e += THREADS) to[e] = NAN;
    return;
  }
  if (n * width <= HELD) {
    SOLVE(held, mem_flags::mem_threadgroup)
  } else {
    SOLVE(w, mem_flags::mem_device | mem_flags::mem_threadgroup)
  }
}
