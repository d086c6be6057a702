// clang-format off
// A part of the body of qr, in either memory: the matrix in W (m rows of n, then n sums, then n of tau)
// becomes R on and above the diagonal, and the vectors below it; R and Q are stored. It reads index, m, n,
// steps, partial, from, scale, back, tall, wide and what it stores to. W_FLAG is of W's memory. Macros:
// THREADS, PARTS.
#pragma once
#define REFLECT(W, W_FLAG)                                                                         \
  for (int e = index; e < m * n; e += THREADS) W[e] = from[e] * scale;                             \
  threadgroup_barrier(W_FLAG);                                                                     \
  for (int c = 0; c < steps; ++c) {                                                                \
    for (int j0 = c; j0 < n; j0 += THREADS / PARTS) {                                              \
      const int j = j0 + index / PARTS;                                                            \
      float sum = 0.0f;                                                                            \
      if (j < n)                                                                                   \
        for (int i = c + 1 + index % PARTS; i < m; i += PARTS) sum += W[i * n + c] * W[i * n + j]; \
      partial[index] = sum;                                                                        \
      threadgroup_barrier(mem_flags::mem_threadgroup);                                             \
      if (index % PARTS == 0 && j < n) {                                                           \
        float total = 0.0f;                                                                        \
        for (int p = 0; p < PARTS; ++p) total += partial[index + p];                               \
        W[m * n + j] = total;                                                                      \
      }                                                                                            \
      threadgroup_barrier(W_FLAG);                                                                 \
    }                                                                                              \
    const float tail = W[m * n + c];                                                               \
    const float alpha = W[c * n + c];                                                              \
    threadgroup_barrier(W_FLAG);                                                                   \
    const bool some = tail > 1e-26f;                                                               \
    const float length = precise::sqrt(alpha * alpha + tail);                                      \
    const float beta = alpha < 0.0f ? length : -length;                                            \
    const float inverse = some ? 1.0f / (alpha - beta) : 0.0f;                                     \
    const float tau = some ? (beta - alpha) / beta : 0.0f;                                         \
    for (int j = c + 1 + index; j < n; j += THREADS) {                                             \
      const float factor = tau * (W[c * n + j] + W[m * n + j] * inverse);                          \
      W[c * n + j] -= factor;                                                                      \
      W[m * n + j] = factor;                                                                       \
    }                                                                                              \
    threadgroup_barrier(W_FLAG);                                                                   \
    const int right = n - c - 1;                                                                   \
    for (int e = index; e < (m - c - 1) * right; e += THREADS) {                                   \
      const int i = c + 1 + e / right;                                                             \
      const int j = c + 1 + e % right;                                                             \
      W[i * n + j] -= W[i * n + c] * inverse * W[m * n + j];                                       \
    }                                                                                              \
    threadgroup_barrier(W_FLAG);                                                                   \
    for (int i = c + 1 + index; i < m; i += THREADS) W[i * n + c] *= inverse;                      \
    if (index == 0) {                                                                              \
      W[m * n + n + c] = tau;                                                                      \
      if (some) W[c * n + c] = beta;                                                               \
    }                                                                                              \
    threadgroup_barrier(W_FLAG);                                                                   \
  }                                                                                                \
  for (int e = index; e < tall * n; e += THREADS) {                                                \
    const int i = e / n;                                                                           \
    to_r[e] = e % n < i ? 0.0f : W[e] * back;                                                      \
  }                                                                                                \
  if (mode != 2)                                                                                   \
    for (int j = index; j < wide; j += THREADS) {                                                  \
      for (int i = 0; i < m; ++i) to_q[i * wide + j] = i == j ? 1.0f : 0.0f;                       \
      for (int c = min(j, steps - 1); c >= 0; --c) {                                               \
        float sum = to_q[c * wide + j];                                                            \
        for (int i = c + 1; i < m; ++i) sum += W[i * n + c] * to_q[i * wide + j];                  \
        sum *= W[m * n + n + c];                                                                   \
        to_q[c * wide + j] -= sum;                                                                 \
        for (int i = c + 1; i < m; ++i) to_q[i * wide + j] -= W[i * n + c] * sum;                  \
      }                                                                                            \
    }
