// gather_matvec_gate_up: y = act(x Wg^T (+ bias)) * (x Wu^T (+ bias)) of few tokens, Wg and Wu
// those of each chosen expert.
//
// inputs x (M, 1 or A, K); ids (M, A); w of the gate, then of up (E, N, ...); bias of both (E, N);
// output y (M, A, N). Products and their sums with a bias are rounded, the rest is float32.
//
// Stage mlx_kd_gather_matvec_gate_up: a unit is a row of x, which is put in the order in which it
// is read. Stage mlx_kd_gather_matvec_gate_up_rows: a unit is a row of both matrices of one pair of
// token and expert.
#include "../rows/knobs.cpu.h"
#ifndef KD_DIM_M
#define KD_DIM_M 0
#define KD_DIM_A 1
#define KD_DIM_E 2
#define KD_DIM_N 3
#define KD_DIM_K 4
#define KD_DIM_activation 5
#define KD_DIM_per_pair 6
#define KD_DIM_has_bias 7
#endif
#define QUANTISED 0

#include "../experts/experts_gated.cpu.h"

extern "C" void mlx_kd_gather_matvec_gate_up(const kd_arguments* a, long begin, long end) {
  prepare_rows(a, begin, end);
}

extern "C" void mlx_kd_gather_matvec_gate_up_rows(const kd_arguments* a, long begin, long end) {
  put_gated_pairs(a, begin, end);
}
