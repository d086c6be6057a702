// gather_matvec: y = x W^T (+ bias) of few tokens, W that of each chosen expert.
//
// inputs x (M, 1 or A, K); ids (M, A); w (E, N, ...); bias (E, N); output y (M, A, N).
//
// Stage mlx_kd_gather_matvec: a unit is a row of x, which is put in the order in which it is read.
// Stage mlx_kd_gather_matvec_rows: a unit is a row of the W of one pair of token and expert.
#include "../rows/knobs.cpu.h"
#ifndef KD_DIM_M
#define KD_DIM_M 0
#define KD_DIM_A 1
#define KD_DIM_E 2
#define KD_DIM_N 3
#define KD_DIM_K 4
#define KD_DIM_per_pair 5
#define KD_DIM_has_bias 6
#endif
#define QUANTISED 0

#include "../experts/experts_single.cpu.h"

extern "C" void mlx_kd_gather_matvec(const kd_arguments* a, long begin, long end) {
  prepare_rows(a, begin, end);
}

extern "C" void mlx_kd_gather_matvec_rows(const kd_arguments* a, long begin, long end) {
  put_products(a, begin, end);
}
