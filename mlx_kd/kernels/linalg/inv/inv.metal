// inv: the inverse of each matrix of a batch, by P A = L U with partial pivoting.
//
// A threadgroup of THREADS threads inverts one matrix: [A, I] is in threadgroup memory if it fits into HELD
// floats, else in scratch memory. I is reduced together with A (eliminate.metal.h), then U X = I is solved.
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

#include "../eliminate.metal.h"
#include "../substitute.metal.h"

#define NOTE(COLUMN, ROW)
#define INVERT(W, W_FLAG)                                        \
    for (int e = index; e < n * width; e += THREADS) {           \
      const int i = e / width;                                   \
      const int j = e % width;                                   \
      W[e] = j < n ? from[i * n + j] : j - n == i ? 1.0f : 0.0f; \
    }                                                            \
    threadgroup_barrier(W_FLAG);                                 \
    ELIMINATE(W, W_FLAG)                                         \
    if (failed == 0) {                                           \
      SUBSTITUTE(W, W_FLAG, false, width, 1)                     \
    }                                                            \
    for (int e = index; e < n * n; e += THREADS)                 \
      to[e] = failed != 0 ? NAN : W[e / n * width + n + e % n];  \
    if (index == 0) info[which] = failed;

[[max_total_threads_per_threadgroup(THREADS)]] [[kernel]] void mlx_kd_inv(
    const device float* a [[buffer(0)]],
    device float* inverse [[buffer(1)]],
    device int* info [[buffer(2)]],
    device float* scratch0 [[buffer(3)]],
    constant int& n [[buffer(4)]],
    uint3 threadgroup_position_in_grid [[threadgroup_position_in_grid]],
    uint3 thread_position_in_threadgroup [[thread_position_in_threadgroup]]) {
  threadgroup float held[HELD];
  threadgroup float sizes[THREADS];
  threadgroup int rows[THREADS];
  const int index = int(thread_position_in_threadgroup.x);
  const ulong which = ulong(threadgroup_position_in_grid.x);
  const int m = n;
  const int steps = n;
  const int sides = n;
  const int width = 2 * n;
  const bool is_unit = false;
  const device float* from = a + which * ulong(n) * ulong(n);
  device float* to = inverse + which * ulong(n) * ulong(n);
  device float* w = scratch0 + which * ulong(n) * ulong(width);
  int failed = 0;
  if (n * width <= HELD) {
    INVERT(held, mem_flags::mem_threadgroup)
  } else {
    INVERT(w, mem_flags::mem_device | mem_flags::mem_threadgroup)
  }
}
