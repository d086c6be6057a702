// gather_gemm_gate_up: y = act(x Wg^T (+ bias)) * (x Wu^T (+ bias)) of many tokens, Wg and Wu those
// of each chosen expert.
//
// inputs x (M, 1 or A, K); ids (M, A); w of the gate, then of up (E, N, ...); bias of both (E, N);
// output y (M, A, N). Products and their sums with a bias are rounded, the rest is float32.
//
// Stage mlx_kd_gather_gemm_gate_up: pairs of token and expert are grouped by expert. Stage
// mlx_kd_gather_gemm_gate_up_blocks: a unit is a block of rows of x of one expert, which are put in
// the order in which they are read. Stage mlx_kd_gather_gemm_gate_up_panels: a unit is a panel of W
// of one expert, or of those of pairs that have none.
#include "../rows/knobs.cpu.h"
#ifndef PANEL
#define PANEL 2048  // columns of W that are decoded at once, at most
#endif
#ifndef FEW
#define FEW 16  // rows of an expert at most that are multiplied as they come
#endif
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

#include "../experts/grouped_gated.cpu.h"

extern "C" void mlx_kd_gather_gemm_gate_up(const kd_arguments* a, long, long) {
  group_pairs(a);
}

extern "C" void mlx_kd_gather_gemm_gate_up_blocks(const kd_arguments* a, long begin, long end) {
  prepare_blocks(a, begin, end);
}

extern "C" void mlx_kd_gather_gemm_gate_up_panels(const kd_arguments* a, long begin, long end) {
  put_experts(a, begin, end);
}
