// clang-format off
// A part of the bodies of svd and eigh: one-sided Jacobi. Rows of g (k of `length` floats) are turned in pairs
// until they are orthogonal, and rows of z (k of k) with them. In a round of a sweep each row is in one pair;
// PARTS threads share a pair. It reads index, g, z, k, length, and leaves `unfinished`: 1 where the
// sweeps did not do. Macros: THREADS, PARTS.
#pragma once
#define ALL_MEMORY (mem_flags::mem_device | mem_flags::mem_threadgroup)
#define JACOBI                                                                                      \
  threadgroup float sums[3 * THREADS];                                                              \
  threadgroup int turned[THREADS];                                                                  \
  const int circle = (k + 1) / 2 * 2 - 1;                                                           \
  const int pairs = (k + 1) / 2;                                                                    \
  const int part = index % PARTS;                                                                   \
  int unfinished = 1;                                                                               \
  for (int sweep = 0; sweep < 30; ++sweep) {                                                        \
    turned[index] = 0;                                                                              \
    for (int round = 0; round < circle; ++round) {                                                  \
      for (int t0 = 0; t0 < pairs; t0 += THREADS / PARTS) {                                         \
        const int t = t0 + index / PARTS;                                                           \
        const int p = t == 0 ? circle : (round + t) % circle;                                       \
        const int q = (round + circle - t) % circle;                                                \
        const bool real = t < pairs && p < k && q < k;                                              \
        float pp = 0.0f;                                                                            \
        float qq = 0.0f;                                                                            \
        float pq = 0.0f;                                                                            \
        if (real)                                                                                   \
          for (int i = part; i < length; i += PARTS) {                                              \
            const float x = g[p * length + i];                                                      \
            const float y = g[q * length + i];                                                      \
            pp += x * x;                                                                            \
            qq += y * y;                                                                            \
            pq += x * y;                                                                            \
          }                                                                                         \
        sums[3 * index] = pp;                                                                       \
        sums[3 * index + 1] = qq;                                                                   \
        sums[3 * index + 2] = pq;                                                                   \
        threadgroup_barrier(mem_flags::mem_threadgroup);                                            \
        pp = 0.0f;                                                                                  \
        qq = 0.0f;                                                                                  \
        pq = 0.0f;                                                                                  \
        for (int i = index - part; i < index - part + PARTS; ++i) {                                 \
          pp += sums[3 * i];                                                                        \
          qq += sums[3 * i + 1];                                                                    \
          pq += sums[3 * i + 2];                                                                    \
        }                                                                                           \
        const bool apart = fabs(pq) > 2.4e-7f * precise::sqrt(pp) * precise::sqrt(qq);              \
        if (real && apart && pp > 1e-32f && qq > 1e-32f) {                                          \
          const float zeta = (qq - pp) / (2.0f * pq);                                               \
          const float size = fabs(zeta);                                                            \
          const float tangent = size > 1e5f ? 0.5f / size : 1.0f / (size + precise::sqrt(1.0f + size * size)); \
          const float c = 1.0f / precise::sqrt(1.0f + tangent * tangent);                           \
          const float s = zeta < 0.0f ? -c * tangent : c * tangent;                                 \
          for (int i = part; i < length; i += PARTS) {                                              \
            const float x = g[p * length + i];                                                      \
            const float y = g[q * length + i];                                                      \
            g[p * length + i] = c * x - s * y;                                                      \
            g[q * length + i] = s * x + c * y;                                                      \
          }                                                                                         \
          for (int i = part; i < k; i += PARTS) {                                                   \
            const float x = z[p * k + i];                                                           \
            const float y = z[q * k + i];                                                           \
            z[p * k + i] = c * x - s * y;                                                           \
            z[q * k + i] = s * x + c * y;                                                           \
          }                                                                                         \
          turned[index] = 1;                                                                        \
        }                                                                                           \
        threadgroup_barrier(ALL_MEMORY);                                                            \
      }                                                                                             \
    }                                                                                               \
    int any = 0;                                                                                    \
    for (int t = 0; t < THREADS; ++t) any |= turned[t];                                             \
    threadgroup_barrier(mem_flags::mem_threadgroup);                                                \
    if (any == 0) {                                                                                 \
      unfinished = 0;                                                                               \
      break;                                                                                        \
    }                                                                                               \
  }
