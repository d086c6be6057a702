// gather_qmatvec: y = x W^T (+ bias) of few rows of x, W that of each chosen expert, quantised as
// MLX stores it.
//
// inputs x (M, 1 or A, K); ids (M, A); w, scales, biases (E, N, ...); bias (E, N); output y (M, A,
// N). Two stages:
//
//   mlx_kd_gather_qmatvec       a unit is a row of x: it is put in the order in which the codes of
//                               W lie
//   mlx_kd_gather_qmatvec_rows  a unit is a row of the W of one pair of token and expert
#include "../rows/knobs.cpu.h"
#ifndef KD_DIM_M
#define KD_DIM_M 0
#define KD_DIM_A 1
#define KD_DIM_E 2
#define KD_DIM_N 3
#define KD_DIM_K 4
#define KD_DIM_bits 5
#define KD_DIM_group 6
#define KD_DIM_mode 7
#define KD_DIM_per_pair 8
#define KD_DIM_has_bias 9
#endif
#define QUANTISED 1

#include "../experts/experts_single.cpu.h"

extern "C" void mlx_kd_gather_qmatvec(const kd_arguments* a, long begin, long end) {
  prepare_rows(a, begin, end);
}

extern "C" void mlx_kd_gather_qmatvec_rows(const kd_arguments* a, long begin, long end) {
  put_products(a, begin, end);
}
