// svd: A = U diag(s) V^T of each matrix of a batch, s >= 0 and descending, by one-sided Jacobi.
//
// A threadgroup of THREADS threads takes one matrix. Let X be A, or A^T where m < n: k columns of
// `length` elements, which are rows in memory. They are turned until they are orthogonal; their
// norms are the singular values. Vectors that are missing (those of singular values of 0, and all
// of U and V^T beyond k where `form` is 0) are unit vectors less their parts along the others.
//
// Grid: batch * THREADS threads in x, threadgroup: THREADS. scratch0: for each matrix, with rows =
// length where `form` is 0 and k otherwise, rows * length + k * k + 2 * k + length + rows floats.
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

[[max_total_threads_per_threadgroup(THREADS)]] [[kernel]] void mlx_kd_svd(
    const device T* a [[buffer(0)]],
    device T* u [[buffer(1)]],
    device T* s [[buffer(2)]],
    device T* vt [[buffer(3)]],
    device int* info [[buffer(4)]],
    device float* scratch0 [[buffer(5)]],
    constant int& m [[buffer(6)]],
    constant int& n [[buffer(7)]],
    constant int& form [[buffer(8)]],
    uint3 threadgroup_position_in_grid [[threadgroup_position_in_grid]],
    uint3 thread_position_in_threadgroup [[thread_position_in_threadgroup]]) {
  threadgroup float most[THREADS];
  const int index = int(thread_position_in_threadgroup.x);
  const ulong which = ulong(threadgroup_position_in_grid.x);
  const int k = min(m, n);
  const int length = max(m, n);
  const int rows = form == 0 ? length : k;
  const int wide = form == 0 ? m : k;
  const int high = form == 0 ? n : k;
  const device T* from = a + which * ulong(m) * ulong(n);
  device T* to_u = u + (form == 2 ? 0 : which * ulong(m) * ulong(wide));
  device T* to_s = s + which * ulong(k);
  device T* to_vt = vt + (form == 2 ? 0 : which * ulong(high) * ulong(n));
  device float* g = scratch0 + which * ulong(rows * length + k * k + 2 * k + length + rows);
  device float* z = g + rows * length;
  device float* sigma = z + k * k;
  device float* place = sigma + k;
  device float* left = place + k;
  device float* along = left + length;

  float largest = 0.0f;
  bool spoilt = false;
  for (int e = index; e < m * n; e += THREADS) {
    const float size = fabs(float(from[e]));
    spoilt = spoilt || (as_type<uint>(size) & 0x7f800000u) == 0x7f800000u;
    largest = spoilt ? -1.0f : max(largest, size);
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

  for (int e = index; e < k * length; e += THREADS) {
    const int j = e / length;
    const int i = e % length;
    g[e] = spoilt ? 0.0f : float(from[m < n ? e : i * n + j]) * scale;
  }
  for (int e = index; e < k * k; e += THREADS) z[e] = e / k == e % k ? 1.0f : 0.0f;
  threadgroup_barrier(ALL_MEMORY);
  JACOBI

  const int failed = spoilt ? 1 : unfinished != 0 ? 2 : 0;
  if (index == 0) info[which] = failed;
  if (failed != 0) {
    for (int j = index; j < k; j += THREADS) to_s[j] = T(NAN);
    if (form != 2) {
      for (int e = index; e < m * wide; e += THREADS) to_u[e] = T(NAN);
      for (int e = index; e < high * n; e += THREADS) to_vt[e] = T(NAN);
    }
    return;
  }

  for (int j = index; j < k; j += THREADS) {
    float square = 0.0f;
    for (int i = 0; i < length; ++i) square += g[j * length + i] * g[j * length + i];
    sigma[j] = square > 1e-32f ? precise::sqrt(square) : 0.0f;
  }
  threadgroup_barrier(ALL_MEMORY);
  for (int j = index; j < k; j += THREADS) {
    int before = 0;
    for (int i = 0; i < k; ++i)
      before += sigma[i] > sigma[j] || (sigma[i] == sigma[j] && i < j) ? 1 : 0;
    place[j] = float(before);
    to_s[before] = T(sigma[j] * back);
  }
  if (form == 2) return;
  for (int e = index; e < rows * length; e += THREADS) {
    const int j = e / length;
    const float size = j < k ? sigma[min(j, k - 1)] : 0.0f;
    g[e] = size > 0.0f ? g[e] / size : 0.0f;
  }
  threadgroup_barrier(ALL_MEMORY);

  // What unit vector i has left beside the rows there are is left[i]; the largest makes the next.
  for (int i = index; i < length; i += THREADS) {
    float rest = 1.0f;
    for (int j = 0; j < k; ++j) rest -= g[j * length + i] * g[j * length + i];
    left[i] = rest;
  }
  threadgroup_barrier(ALL_MEMORY);
  for (int p = 0; p < rows; ++p) {
    if (p < k && sigma[min(p, k - 1)] > 0.0f) continue;
    int best = 0;
    for (int i = 1; i < length; ++i) best = left[i] > left[best] ? i : best;
    for (int pass = 0; pass < 3; ++pass) {
      for (int j = index; j < rows; j += THREADS) {
        float product = 0.0f;
        if (pass == 0)
          product = g[j * length + best];
        else if (j != p)
          for (int i = 0; i < length; ++i) product += g[j * length + i] * g[p * length + i];
        along[j] = product;
      }
      threadgroup_barrier(ALL_MEMORY);
      for (int i = index; i < length; i += THREADS) {
        float x = pass == 0 ? (i == best ? 1.0f : 0.0f) : g[p * length + i];
        for (int j = 0; j < rows; ++j)
          if (j != p) x -= along[j] * g[j * length + i];
        g[p * length + i] = x;
      }
      threadgroup_barrier(ALL_MEMORY);
      float square = 0.0f;
      for (int i = 0; i < length; ++i) square += g[p * length + i] * g[p * length + i];
      const float inverse = 1.0f / precise::sqrt(square);
      threadgroup_barrier(ALL_MEMORY);
      for (int i = index; i < length; i += THREADS) {
        g[p * length + i] *= inverse;
        if (pass == 2) left[i] -= g[p * length + i] * g[p * length + i];
      }
      threadgroup_barrier(ALL_MEMORY);
    }
  }

  const int taken = m < n ? k : wide;
  for (int e = index; e < m * taken; e += THREADS) {
    const int i = e % m;
    const int j = e / m;
    const int to = j < k ? int(place[min(j, k - 1)]) : j;
    to_u[i * wide + to] = T(m < n ? z[j * k + i] : g[j * length + i]);
  }
  for (int e = index; e < high * n; e += THREADS) {
    const int i = e % n;
    const int j = e / n;
    const int to = j < k ? int(place[min(j, k - 1)]) : j;
    to_vt[to * n + i] = T(m < n ? g[j * length + i] : z[j * k + i]);
  }
}
