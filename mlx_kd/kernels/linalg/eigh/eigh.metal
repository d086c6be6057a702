// eigh: A = V diag(w) V^T of each symmetric matrix of a batch, w ascending, by one-sided Jacobi.
//
// A threadgroup of THREADS threads takes one matrix. B = A + move I, with move a little above A's
// largest sum of magnitudes of a row, is positive definite and well conditioned: the rows of B are
// turned until they are those of B V, and V's columns are the eigenvectors of A too. The eigenvalues
// are v^T A v.
//
// Grid: batch * THREADS threads in x, threadgroup: THREADS. scratch0: 2 * n * n + n floats a matrix.
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
#define THREADS 128  // of a matrix
#endif
#ifndef PARTS
#define PARTS 8  // threads of a pair of columns
#endif

#include "../../common/packs.metal.h"
#include "../jacobi.metal.h"

[[max_total_threads_per_threadgroup(THREADS)]] [[kernel]] void mlx_kd_eigh(
    const device T* a [[buffer(0)]],
    device T* w [[buffer(1)]],
    device T* v [[buffer(2)]],
    device int* info [[buffer(3)]],
    device float* scratch0 [[buffer(4)]],
    constant int& n [[buffer(5)]],
    constant int& upper [[buffer(6)]],
    constant int& values [[buffer(7)]],
    uint3 threadgroup_position_in_grid [[threadgroup_position_in_grid]],
    uint3 thread_position_in_threadgroup [[thread_position_in_threadgroup]]) {
  threadgroup float most[THREADS];
  const int index = int(thread_position_in_threadgroup.x);
  const ulong which = ulong(threadgroup_position_in_grid.x);
  const int k = n;
  const int length = n;
  const device T* from = a + which * ulong(n) * ulong(n);
  device T* to_w = w + which * ulong(n);
  device T* to_v = v + (values != 0 ? 0 : which * ulong(n) * ulong(n));
  device float* g = scratch0 + which * ulong(2 * n * n + n);
  device float* z = g + n * n;
  device float* found = z + n * n;

  float largest = 0.0f;
  bool spoilt = false;
  for (int e = index; e < n * n; e += THREADS) {
    const int i = e / n;
    const int j = e % n;
    if (upper != 0 ? j >= i : j <= i) {
      const float size = fabs(float(from[e]));
      spoilt = spoilt || (as_type<uint>(size) & 0x7f800000u) == 0x7f800000u;
      largest = spoilt ? -1.0f : max(largest, size);
    }
  }
  most[index] = largest;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  for (int t = 0; t < THREADS; ++t) {
    spoilt = spoilt || most[t] < 0.0f;
    largest = max(largest, most[t]);
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  const int exponent = clamp(int(as_type<uint>(largest) >> 23), 4, 250);
  const float scale = as_type<float>(uint(254 - exponent) << 23);
  const float back = as_type<float>(uint(exponent) << 23);

  for (int e = index; e < n * n; e += THREADS) {
    const int i = e / n;
    const int j = e % n;
    const bool read = upper != 0 ? j >= i : j <= i;
    g[e] = spoilt ? 0.0f : float(from[read ? e : j * n + i]) * scale;
    z[e] = i == j ? 1.0f : 0.0f;
  }
  threadgroup_barrier(ALL_MEMORY);
  float widest = 0.0f;
  for (int i = index; i < n; i += THREADS) {
    float sum = 0.0f;
    for (int j = 0; j < n; ++j) sum += fabs(g[i * n + j]);
    widest = max(widest, sum);
  }
  most[index] = widest;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  for (int t = 0; t < THREADS; ++t) widest = max(widest, most[t]);
  const float move = widest > 0.0f ? 1.1f * widest : 1.0f;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  for (int i = index; i < n; i += THREADS) g[i * n + i] += move;
  threadgroup_barrier(ALL_MEMORY);
  JACOBI

  const int failed = spoilt ? 1 : unfinished != 0 ? 2 : 0;
  if (index == 0) info[which] = failed;
  for (int j = index; j < n; j += THREADS) {
    float value = 0.0f;
    for (int i = 0; i < n; ++i) {
      float product = 0.0f;
      for (int l = 0; l < n; ++l) {
        const bool read = upper != 0 ? l >= i : l <= i;
        product += float(from[read ? i * n + l : l * n + i]) * scale * z[j * n + l];
      }
      value += product * z[j * n + i];
    }
    found[j] = value;
  }
  threadgroup_barrier(ALL_MEMORY);
  for (int j = index; j < n; j += THREADS) {
    int before = 0;
    for (int i = 0; i < n; ++i)
      before += found[i] < found[j] || (found[i] == found[j] && i < j) ? 1 : 0;
    to_w[failed != 0 ? j : before] = failed != 0 ? T(NAN) : T(found[j] * back);
    if (values == 0)
      for (int i = 0; i < n; ++i)
        to_v[i * n + (failed != 0 ? j : before)] = failed != 0 ? T(NAN) : T(z[j * n + i]);
  }
}
