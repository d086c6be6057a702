// clang-format off
// A part of the body of the operators on P A = L U, in either memory: W, m rows of `width` of which the
// first n are A's, becomes L below the diagonal and U on and above it, with partial pivoting; what is right
// of A is reduced with it. It reads index, m, steps, width and has sizes and rows of THREADS in threadgroup
// memory. `failed` is the first column, from 1, without a pivot that is finite and not 0. NOTE(column, row)
// is what all threads do with a pivot. W_FLAG is of W's memory. BAD_PIVOT(size) is whether a column fails.
#pragma once
#ifndef BAD_PIVOT
#define BAD_PIVOT(SIZE) (!((SIZE) > 0.0f))
#endif
#define ELIMINATE(W, W_FLAG)                                                          \
    for (int c = 0; c < steps; ++c) {                                                 \
      float most = -1.0f;                                                             \
      int row = c;                                                                    \
      for (int i = c + index; i < m; i += THREADS) {                                  \
        const float size = fabs(W[i * width + c]);                                    \
        if (size > most) {                                                            \
          most = size;                                                                \
          row = i;                                                                    \
        }                                                                             \
      }                                                                               \
      sizes[index] = most;                                                            \
      rows[index] = row;                                                              \
      threadgroup_barrier(mem_flags::mem_threadgroup);                                \
      for (int other = THREADS / 2; other > 0; other /= 2) {                          \
        if (index < other) {                                                          \
          const float size = sizes[index + other];                                    \
          const int there = rows[index + other];                                      \
          if (size > sizes[index] || (size == sizes[index] && there < rows[index])) { \
            sizes[index] = size;                                                      \
            rows[index] = there;                                                      \
          }                                                                           \
        }                                                                             \
        threadgroup_barrier(mem_flags::mem_threadgroup);                              \
      }                                                                               \
      const float size = sizes[0];                                                    \
      const int pivot = rows[0];                                                      \
      if (BAD_PIVOT(size) || (as_type<uint>(size) & 0x7f800000u) == 0x7f800000u) {     \
        failed = c + 1;                                                               \
        break;                                                                        \
      }                                                                               \
      NOTE(c, pivot)                                                                  \
      if (pivot != c)                                                                 \
        for (int j = index; j < width; j += THREADS) {                                \
          const float kept = W[c * width + j];                                        \
          W[c * width + j] = W[pivot * width + j];                                    \
          W[pivot * width + j] = kept;                                                \
        }                                                                             \
      threadgroup_barrier(W_FLAG);                                                    \
      const float inverse = size > 0.0f ? 1.0f / W[c * width + c] : 0.0f;             \
      for (int i = c + 1 + index; i < m; i += THREADS) W[i * width + c] *= inverse;   \
      threadgroup_barrier(W_FLAG);                                                    \
      const int right = width - c - 1;                                                \
      for (int e = index; e < (m - c - 1) * right; e += THREADS) {                    \
        const int i = c + 1 + e / right;                                              \
        const int j = c + 1 + e % right;                                              \
        W[i * width + j] -= W[i * width + c] * W[c * width + j];                      \
      }                                                                               \
      threadgroup_barrier(W_FLAG);                                                    \
    }
