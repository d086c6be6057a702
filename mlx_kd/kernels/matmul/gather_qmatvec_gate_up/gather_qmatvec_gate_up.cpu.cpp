// gather_qmatvec_gate_up: y = act(x Wg^T (+ bias)) * (x Wu^T (+ bias)) of few rows of x, Wg and Wu
// those of each chosen expert, quantised as MLX stores them.
//
// inputs x (M, 1 or A, K); ids (M, A); w, scales, biases of the gate, then of up (E, N, ...); bias
// of both (E, N); output y (M, A, N). Products and their sums with a bias are rounded, the rest is
// float32. Two stages:
//
//   mlx_kd_gather_qmatvec_gate_up       a unit is a row of x: it is put in the order in which the
//                                       codes of W lie
//   mlx_kd_gather_qmatvec_gate_up_rows  a unit is a row of both matrices of one pair of token and
//                                       expert; they are the two streams
#include "../rows/knobs.cpu.h"
#ifndef KD_DIM_M
#define KD_DIM_M 0
#define KD_DIM_A 1
#define KD_DIM_E 2
#define KD_DIM_N 3
#define KD_DIM_K 4
#define KD_DIM_activation 5
#define KD_DIM_bits 6
#define KD_DIM_group 7
#define KD_DIM_mode 8
#define KD_DIM_per_pair 9
#define KD_DIM_has_bias 10
#endif
#define QUANTISED 1

#include "../experts/experts_gated.cpu.h"

extern "C" void mlx_kd_gather_qmatvec_gate_up(const kd_arguments* a, long begin, long end) {
  prepare_rows(a, begin, end);
}

extern "C" void mlx_kd_gather_qmatvec_gate_up_rows(const kd_arguments* a, long begin, long end) {
  put_gated_pairs(a, begin, end);
}
