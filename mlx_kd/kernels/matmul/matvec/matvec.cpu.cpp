// matvec: y = x W^T (+ bias) (+ residual) for few rows of x, W as MLX stores it.
//
// inputs x (M, K); w; norm (K), bias (N), residual (M, N); output y (M, N). Two stages:
//
//   mlx_kd_matvec       a unit is a row of x: it is normalised where there is a norm, and put in
//   the
//                   order in which the codes of W lie
//   mlx_kd_matvec_rows  a unit is a row of W
#ifndef KD_DTYPE
#define KD_DTYPE 0  // 0 float32, 1 float16, 2 bfloat16
#endif
#ifndef VEC
#define VEC 16  // bytes of a vector of floats
#endif
#ifndef DOT
#define DOT 1  // 1: the processor's dot product of bfloat16, where it has one
#endif
#ifndef UNROLL
#define UNROLL 1  // steps a turn of the innermost loop
#endif
#ifndef PREFETCH
#define PREFETCH 0  // bytes ahead, where x does not stay in the first cache
#endif
#ifndef KD_DIM_M
#define KD_DIM_M 0
#define KD_DIM_N 1
#define KD_DIM_K 2
#define KD_DIM_has_norm 3
#define KD_DIM_has_bias 4
#define KD_DIM_has_residual 5
#define KD_SCALAR_eps 0
#endif
#define QUANTISED 0

#include "../call.cpu.h"

constexpr int kNorm = 1 + kPerMatrix, kBias = kNorm + 1, kResidual = kBias + 1;

extern "C" void mlx_kd_matvec(const kd_arguments* a, long begin, long end) {
  prepare(a, kNorm, begin, end);
}

extern "C" void mlx_kd_matvec_rows(const kd_arguments* a, long begin, long end) {
  put_rows(a, matrix_of(a, 0, a->dims[KD_DIM_N]), begin, end,
           {(T*)a->outputs[0], a->dims[KD_DIM_N],
            a->dims[KD_DIM_has_bias] ? (const T*)a->inputs[kBias] : nullptr,
            a->dims[KD_DIM_has_residual] ? (const T*)a->inputs[kResidual] : nullptr});
}
