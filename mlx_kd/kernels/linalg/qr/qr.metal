// qr: A = Q R of each matrix of a batch, by Householder's reflections.
//
// A threadgroup of THREADS threads factors one matrix: in threadgroup memory if it fits into HELD
// floats, else in scratch memory. PARTS threads share a column's sum of products. A column's norm and its
// products with the columns right of it are sums of the same pass. The columns of Q are made by one
// thread each, from the last reflection to the first.
//
// Grid: batch * THREADS threads in x, threadgroup: THREADS. scratch0: batch * (m + 2) * n floats.
#include <metal_stdlib>
using namespace metal;

#ifndef THREADS
#define THREADS 128  // of a matrix
#endif
#ifndef PARTS
#define PARTS 4  // threads of a column
#endif
#ifndef HELD
#define HELD 4096  // floats of a matrix in threadgroup memory at most
#endif

#include "reflect.metal.h"

[[max_total_threads_per_threadgroup(THREADS)]] [[kernel]] void mlx_kd_qr(
    const device float* a [[buffer(0)]],
    device float* q [[buffer(1)]],
    device float* r [[buffer(2)]],
    device int* info [[buffer(3)]],
    device float* scratch0 [[buffer(4)]],
    constant int& m [[buffer(5)]],
    constant int& n [[buffer(6)]],
    constant int& mode [[buffer(7)]],
    uint3 threadgroup_position_in_grid [[threadgroup_position_in_grid]],
    uint3 thread_position_in_threadgroup [[thread_position_in_threadgroup]]) {
  threadgroup float held[HELD];
  threadgroup float partial[THREADS];
  threadgroup int spoilt[THREADS];
  const int index = int(thread_position_in_threadgroup.x);
  const ulong which = ulong(threadgroup_position_in_grid.x);
  const int steps = min(m, n);
  const int tall = mode == 1 ? m : steps;
  const int wide = tall;
  const device float* from = a + which * ulong(m) * ulong(n);
  device float* to_r = r + which * ulong(tall) * ulong(n);
  device float* to_q = q + which * ulong(m) * ulong(wide);
  device float* w = scratch0 + which * ulong(m + 2) * ulong(n);

  // The largest element, and the first column that has one that is not finite.
  float most = 0.0f;
  int first = n;
  for (int e = index; e < m * n; e += THREADS) {
    const float size = fabs(from[e]);
    if ((as_type<uint>(size) & 0x7f800000u) == 0x7f800000u)
      first = min(first, e % n);
    else
      most = max(most, size);
  }
  partial[index] = most;
  spoilt[index] = first;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  for (int t = 0; t < THREADS; ++t) {
    most = max(most, partial[t]);
    first = min(first, spoilt[t]);
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  const int exponent = clamp(int(as_type<uint>(most) >> 23), 4, 250);
  const float scale = as_type<float>(uint(254 - exponent) << 23);
  const float back = as_type<float>(uint(exponent) << 23);

  if (index == 0) info[which] = first < n ? first + 1 : 0;
  if (first < n) {
    for (int e = index; e < tall * n; e += THREADS) to_r[e] = NAN;
    if (mode != 2)
      for (int e = index; e < m * wide; e += THREADS) to_q[e] = NAN;
  } else if ((m + 2) * n <= HELD) {
    REFLECT(held, mem_flags::mem_threadgroup)
  } else {
    REFLECT(w, mem_flags::mem_device | mem_flags::mem_threadgroup)
  }
}
