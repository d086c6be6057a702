// matvec: y = x W^T (+ bias) (+ residual) for few rows of x, W as MLX stores it.
//
// Inputs x (M, K); w; norm (K), bias (N), residual (M, N); output y (M, N).
//
// Stage mlx_kd_matvec: a unit is a row of x, which is normalised where there is a norm and put in
// the order in which the codes of W lie. Stage mlx_kd_matvec_rows: a unit is a row of W.
#include "../rows/knobs.cpu.h"
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

#include "../rows/single.cpu.h"

extern "C" void mlx_kd_matvec(const kd_arguments* a, long begin, long end) {
  prepare(a, kNorm, begin, end);
}

extern "C" void mlx_kd_matvec_rows(const kd_arguments* a, long begin, long end) {
  put_rows(a, matrix_of(a, 0, a->dims[KD_DIM_N]), begin, end, results_of(a));
}
