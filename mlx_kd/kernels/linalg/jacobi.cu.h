// clang-format off
// One-sided Jacobi by a group of threads: rows of g (k of `length` floats, in lines of `wide`) are turned in pairs
// until they are orthogonal, and rows of z with them if there are any. blockDim.x neighbouring threads, a power of
// two, share a pair; each has kQuads times four floats of both rows in registers, or reads them as it goes (0).
#pragma once
#include "team.cu.h"

#ifndef SHARED
#define SHARED 225  // KiB of a matrix in shared memory at most; the launch has them
#endif

constexpr int kMostSweeps = 30;
constexpr float kApart = 5e-7f;  // of the product of two norms: about this is what sums of products are off by

// Rows, in shared or in scratch memory; `wide` is a multiple of 4.
struct Rows {
  float* at;
  int count, length, wide;
};

// x - s (y + tau x) and y + s (x - tau y): with tau = s / (1 + c), a small angle loses nothing of the norms.
struct Turn {
  float s, tau;
  bool is_made;
};

KD_INLINE Turn turn_of(float pp, float qq, float pq) {
  const bool apart = fabsf(pq) > kApart * sqrtf(pp) * sqrtf(qq);
  if (!apart || !(pp > 1e-32f) || !(qq > 1e-32f)) return {0.0f, 0.0f, false};
  const float zeta = (qq - pp) / (2.0f * pq), size = fabsf(zeta);
  const float tangent = size > 1e5f ? 0.5f / size : 1.0f / (size + sqrtf(1.0f + size * size));
  const float c = 1.0f / sqrtf(1.0f + tangent * tangent), s = zeta < 0.0f ? -c * tangent : c * tangent;
  return {s, s / (1.0f + c), true};
}

KD_INLINE void add_products(float4 x, float4 y, float& pp, float& qq, float& pq) {
  pp += x.x * x.x + x.y * x.y + x.z * x.z + x.w * x.w;
  qq += y.x * y.x + y.y * y.y + y.z * y.z + y.w * y.w;
  pq += x.x * y.x + x.y * y.y + x.z * y.z + x.w * y.w;
}

KD_INLINE void turn_numbers(const Turn& turn, float& x, float& y) {
  const float kept = x;
  x -= turn.s * (y + turn.tau * x);
  y += turn.s * (kept - turn.tau * y);
}

KD_INLINE void turn_quad(const Turn& turn, float4 x, float4 y, float* p, float* q) {
  turn_numbers(turn, x.x, y.x);
  turn_numbers(turn, x.y, y.y);
  turn_numbers(turn, x.z, y.z);
  turn_numbers(turn, x.w, y.w);
  *(float4*)p = x;
  *(float4*)q = y;
}

KD_INLINE void turn_rows(const Turn& turn, const Rows& rows, int p, int q) {
  float *const x = rows.at + (long)p * rows.wide, *const y = rows.at + (long)q * rows.wide;
  for (int i = threadIdx.x * 4; i < rows.length; i += blockDim.x * 4)
    turn_quad(turn, *(const float4*)(x + i), *(const float4*)(y + i), x + i, y + i);
}

// Whether rows p and q of g were turned.
template <int kQuads>
KD_INLINE bool turn_pair(const Rows& g, const Rows& z, int p, int q, bool is_real) {
  float *const x = g.at + (long)p * g.wide, *const y = g.at + (long)q * g.wide;
  float4 of_p[kQuads ? kQuads : 1], of_q[kQuads ? kQuads : 1];
  float pp = 0.0f, qq = 0.0f, pq = 0.0f;
  if (is_real && kQuads) {
#pragma unroll
    for (int e = 0; e < kQuads; ++e) {
      const int i = (e * blockDim.x + threadIdx.x) * 4;
      if (i >= g.length) continue;
      of_p[e] = *(const float4*)(x + i), of_q[e] = *(const float4*)(y + i);
      add_products(of_p[e], of_q[e], pp, qq, pq);
    }
  } else if (is_real) {
    for (int i = threadIdx.x * 4; i < g.length; i += blockDim.x * 4)
      add_products(*(const float4*)(x + i), *(const float4*)(y + i), pp, qq, pq);
  }
  const int parts = blockDim.x;
  pp = sum_of_parts(pp, parts), qq = sum_of_parts(qq, parts), pq = sum_of_parts(pq, parts);
  const Turn turn = turn_of(pp, qq, pq);
  if (!is_real || !turn.is_made) return false;
  if (kQuads) {
#pragma unroll
    for (int e = 0; e < kQuads; ++e) {
      const int i = (e * blockDim.x + threadIdx.x) * 4;
      if (i < g.length) turn_quad(turn, of_p[e], of_q[e], x + i, y + i);
    }
  } else {
    turn_rows(turn, g, p, q);
  }
  if (z.count) turn_rows(turn, z, p, q);
  return true;
}

// Whether the sweeps did. In a round each row is in one pair.
template <int kQuads>
KD_INLINE bool make_orthogonal(const Rows& g, const Rows& z) {
  const int circle = (g.count + 1) / 2 * 2 - 1, pairs = (g.count + 1) / 2;
  for (int sweep = 0; sweep < kMostSweeps; ++sweep) {
    bool is_turned = false;
    for (int round = 0; round < circle; ++round) {
      for (int t0 = 0; t0 < pairs; t0 += blockDim.y) {
        const int t = t0 + threadIdx.y;
        const int p = t == 0 ? circle : (round + t) % circle, q = (round + circle - t) % circle;
        const bool is_real = t < pairs && p < g.count && q < g.count;
        is_turned = turn_pair<kQuads>(g, z, p, q, is_real) || is_turned;
      }
      __syncthreads();
    }
    if (!__syncthreads_or(is_turned)) return true;
  }
  return false;
}

// ---- what svd and eigh share besides

KD_INLINE int thread_of() {
  return threadIdx.y * blockDim.x + threadIdx.x;
}
KD_INLINE int thread_count() {
  return blockDim.x * blockDim.y;
}
KD_INLINE int warp_of() {
  return thread_of() / 32;
}
KD_INLINE int warp_count() {
  return thread_count() / 32;
}

// The largest of what the threads have, for all of them.
KD_INLINE unsigned largest_of_group(unsigned x) {
  __shared__ unsigned largest;
  if (thread_of() == 0) largest = 0;
  __syncthreads();
  x = largest_of_warp(x);
  if (thread_of() % 32 == 0) atomicMax(&largest, x);
  __syncthreads();
  x = largest;
  __syncthreads();
  return x;
}

KD_INLINE float sum_of_warp(float x) {
  return sum_of_parts(x, 32);
}

KD_INLINE int quads(int n) {
  return (n + 3) / 4 * 4;
}
