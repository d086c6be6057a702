// solve: A X = B for each matrix of a batch, by P A = L U with partial pivoting.
//
// A threadgroup of THREADS threads solves one system: [A, B] is in threadgroup memory if it fits into HELD
// floats, else in scratch memory. B is reduced together with A (eliminate.metal.h), then U X = B is solved.
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
#define SOLVE(W, W_FLAG)                                        \
    for (int e = index; e < n * width; e += THREADS) {          \
      const int i = e / width;                                  \
      const int j = e % width;                                  \
      W[e] = j < n ? from[i * n + j] : from_b[i * k + j - n];   \
    }                                                           \
    threadgroup_barrier(W_FLAG);                                \
    ELIMINATE(W, W_FLAG)                                        \
    if (failed == 0) {                                          \
      SUBSTITUTE(W, W_FLAG, false, width, 1)                    \
    }                                                           \
    for (int e = index; e < n * k; e += THREADS)                \
      to[e] = failed != 0 ? NAN : W[e / k * width + n + e % k]; \
    if (index == 0) info[which] = failed;

[[max_total_threads_per_threadgroup(THREADS)]] [[kernel]] void mlx_kd_solve(
    const device float* a [[buffer(0)]],
    const device float* b [[buffer(1)]],
    device float* x [[buffer(2)]],
    device int* info [[buffer(3)]],
    device float* scratch0 [[buffer(4)]],
    constant int& n [[buffer(5)]],
    constant int& k [[buffer(6)]],
    uint3 threadgroup_position_in_grid [[threadgroup_position_in_grid]],
    uint3 thread_position_in_threadgroup [[thread_position_in_threadgroup]]) {
  threadgroup float held[HELD];
  threadgroup float sizes[THREADS];
  threadgroup int rows[THREADS];
  const int index = int(thread_position_in_threadgroup.x);
  const ulong which = ulong(threadgroup_position_in_grid.x);
  const int m = n;
  const int steps = n;
  const int sides = k;
  const int width = n + k;
  const bool is_unit = false;
  const device float* from = a + which * ulong(n) * ulong(n);
  const device float* from_b = b + which * ulong(n) * ulong(k);
  device float* to = x + which * ulong(n) * ulong(k);
  device float* w = scratch0 + which * ulong(n) * ulong(width);
  int failed = 0;
  if (n * width <= HELD) {
    SOLVE(held, mem_flags::mem_threadgroup)
  } else {
    SOLVE(w, mem_flags::mem_device | mem_flags::mem_threadgroup)
  }
}
