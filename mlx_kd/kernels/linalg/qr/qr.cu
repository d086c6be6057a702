// qr: A = Q R of each matrix of a batch, by Householder's reflections.
//
//   mlx_kd_qr_16, _32, _64       a group takes a matrix in registers: a thread has that many rows of a column, and
//                                blockDim.x neighbouring threads, a power of two, share a column (held.cu.h)
//   _tall, _join                 tall ones of at most 32 columns: a group takes a block of rows in registers (tall.cu.h)
//   mlx_kd_qr (measures), _copy, larger ones: panels of 32 columns by a group for each matrix, then all columns right
//   _panel, _columns, _r, _q     of a panel by groups of 64 columns; Q in the same way, from the last panel on
//                                (blocked.cu.h)
//
// Grid: groups of (threads of a column, columns), one for each matrix in x; and of 256 or 512 threads, matrices in x,
// tiles in y.
#include "../../common/kd_arguments.h"
#include "../team.cu.h"

#ifndef KD_DIM_m
#define KD_DIM_m 1
#define KD_DIM_n 2
#define KD_DIM_mode 3
#endif

constexpr int kComplete = 1, kOnlyR = 2;

struct Sizes {
  int m, n, steps, tall, mode;  // tall: rows of R and columns of Q
};
KD_INLINE Sizes sizes_of(const kd_arguments& a) {
  const int m = (int)a.dims[KD_DIM_m], n = (int)a.dims[KD_DIM_n], mode = (int)a.dims[KD_DIM_mode];
  return {m, n, min(m, n), mode == kComplete ? m : min(m, n), mode};
}

// The reflection that makes (alpha, tail) a multiple of the first unit vector: beta of it, and the vector
// (1, tail * inverse). tail: the sum of its squares.
struct Reflection {
  float beta, inverse, tau;
};
KD_INLINE Reflection reflection_of(float alpha, float tail) {
  const float length = sqrtf(alpha * alpha + tail), beta = alpha < 0.0f ? length : -length;
  if (!(tail > 1e-26f)) return {alpha, 0.0f, 0.0f};
  return {beta, 1.0f / (alpha - beta), (beta - alpha) / beta};
}

// What all threads find of a matrix: bits of the largest magnitude, and the first column that is not finite.
struct Found {
  unsigned largest;
  int spoilt;
};

#include "held.cu.h"
#include "tall.cu.h"
#include "blocked.cu.h"
