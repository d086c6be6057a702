// cholesky: A = L L^T of each matrix of a batch; L, or U = L^T where `upper`.
//
// A threadgroup of THREADS threads factors one matrix, in float, in a copy of the triangle that is
// read: panels of BLOCK columns. The block on the diagonal is factored in threadgroup memory, each
// row below it is solved by one thread, then the columns right of the panel are updated.
//
// Grid: batch * THREADS threads in x, threadgroup: THREADS. scratch0: batch * n * n floats.
#include <metal_stdlib>
using namespace metal;

#ifndef KD_DTYPE
#define KD_DTYPE 1  // of the arrays: 0 float, 1 half, 2 bfloat
#endif
#ifndef KD_ALIGNED
#define KD_ALIGNED 1  // 0: arrays start anywhere, 1: at a multiple of 16 bytes
#endif
#ifndef VEC
#define VEC 1  // elements are read one by one
#endif
#ifndef THREADS
#define THREADS 256  // of a matrix
#endif
#ifndef BLOCK
#define BLOCK 16  // columns of a panel
#endif

#include "../../common/packs.metal.h"

[[max_total_threads_per_threadgroup(THREADS)]] [[kernel]] void mlx_kd_cholesky(
    const device T* a [[buffer(0)]],
    device T* l [[buffer(1)]],
    device int* info [[buffer(2)]],
    device float* scratch0 [[buffer(3)]],
    constant int& n [[buffer(4)]],
    constant int& upper [[buffer(5)]],
    uint3 threadgroup_position_in_grid [[threadgroup_position_in_grid]],
    uint3 thread_position_in_threadgroup [[thread_position_in_threadgroup]]) {
  threadgroup float block[BLOCK * BLOCK];
  threadgroup int failed[1];
  const int index = int(thread_position_in_threadgroup.x);
  const ulong at = ulong(threadgroup_position_in_grid.x) * ulong(n) * ulong(n);
  const device T* from = a + at;
  device T* made = l + at;
  device float* w = scratch0 + at;

  if (index == 0) failed[0] = 0;
  for (int e = index; e < n * n; e += THREADS) {
    const int i = e / n;
    const int j = e % n;
    if (j <= i) w[e] = float(from[upper != 0 ? j * n + i : e]);
  }
  threadgroup_barrier(mem_flags::mem_device | mem_flags::mem_threadgroup);

  for (int p = 0; p < n; p += BLOCK) {
    const int width = min(BLOCK, n - p);
    for (int e = index; e < BLOCK * BLOCK; e += THREADS) {
      const int i = e / BLOCK;
      const int j = e % BLOCK;
      if (i < width && j <= i) block[e] = w[(p + i) * n + p + j];
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    for (int c = 0; c < width; ++c) {
      const float pivot = block[c * BLOCK + c];
      const bool good = pivot > 0.0f;
      threadgroup_barrier(mem_flags::mem_threadgroup);
      if (!good) {  // all threads read the same pivot
        if (index == 0) failed[0] = p + c + 1;
        break;
      }
      const float root = precise::sqrt(pivot);
      for (int i = c + index; i < width; i += THREADS)
        block[i * BLOCK + c] = i == c ? root : block[i * BLOCK + c] / root;
      threadgroup_barrier(mem_flags::mem_threadgroup);
      for (int e = index; e < BLOCK * BLOCK; e += THREADS) {
        const int i = e / BLOCK;
        const int j = e % BLOCK;
        if (i < width && j <= i && j > c)
          block[e] -= block[i * BLOCK + c] * block[j * BLOCK + c];
      }
      threadgroup_barrier(mem_flags::mem_threadgroup);
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    if (failed[0] != 0) break;

    for (int e = index; e < BLOCK * BLOCK; e += THREADS) {
      const int i = e / BLOCK;
      const int j = e % BLOCK;
      if (i < width && j <= i) w[(p + i) * n + p + j] = block[e];
    }
    const int next = p + width;
    for (int i = next + index; i < n; i += THREADS) {
      float x[BLOCK];
      for (int c = 0; c < width; ++c) {
        float sum = w[i * n + p + c];
        for (int q = 0; q < c; ++q) sum -= x[q] * block[c * BLOCK + q];
        x[c] = sum / block[c * BLOCK + c];
        w[i * n + p + c] = x[c];
      }
    }
    threadgroup_barrier(mem_flags::mem_device | mem_flags::mem_threadgroup);
    const int right = n - next;
    for (int e = index; e < right * right; e += THREADS) {
      const int i = next + e / right;
      const int j = next + e % right;
      if (j <= i) {
        float sum = w[i * n + j];
        for (int c = p; c < next; ++c) sum -= w[i * n + c] * w[j * n + c];
        w[i * n + j] = sum;
      }
    }
    threadgroup_barrier(mem_flags::mem_device | mem_flags::mem_threadgroup);
  }

  const int found = failed[0];
  if (index == 0) info[threadgroup_position_in_grid.x] = found;
  for (int e = index; e < n * n; e += THREADS) {
    const int i = upper != 0 ? e % n : e / n;
    const int j = upper != 0 ? e / n : e % n;
    made[e] = found != 0 ? T(NAN) : j <= i ? T(w[i * n + j]) : T(0.0f);
  }
}
