// clang-format off
// A part of the body of the operators that solve triangular systems, in either memory: W has n rows of
// `width`, T in the first n columns, `sides` right sides in those after them, which become the solutions.
// Element (r, i) of the triangle is at r * ALONG + i * ACROSS; FORWARD: it is a lower one. It reads index
// and is_unit. W_FLAG is of W's memory.
#pragma once
#define SUBSTITUTE(W, W_FLAG, FORWARD, ALONG, ACROSS)                     \
    for (int step = 0; step < n; ++step) {                                \
      const int i = FORWARD ? step : n - 1 - step;                        \
      for (int j = index; j < sides; j += THREADS)                        \
        W[i * width + n + j] /= is_unit ? 1.0f : W[i * width + i];        \
      threadgroup_barrier(W_FLAG);                                        \
      const int count = FORWARD ? n - 1 - i : i;                          \
      const int first = FORWARD ? i + 1 : 0;                              \
      for (int e = index; e < count * sides; e += THREADS) {              \
        const int r = first + e / sides;                                  \
        const int j = n + e % sides;                                      \
        W[r * width + j] -= W[r * ALONG + i * ACROSS] * W[i * width + j]; \
      }                                                                   \
      threadgroup_barrier(W_FLAG);                                        \
    }
