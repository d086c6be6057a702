// gather_qgemm_gate_up: y = act(x Wg^T) * (x Wu^T) of many tokens, the W of each chosen expert, quantised as MLX
// stores it.
//
//   mlx_kd_gather_qgemm_gate_up        pairs of token and expert by expert
//   mlx_kd_gather_qgemm_gate_up_any    any size, type and format, on ordinary units
//   mlx_kd_gather_qgemm_gate_up_rows   rows of x in that order, for tensor cores
//   mlx_kd_gather_qgemm_gate_up_4_64   of codes of 4 bits in groups of 64 (32, 128), on tensor cores (sm_90a)
//   mlx_kd_gather_qgemm_gate_up_mxfp4  the same of mxfp4
//
// See experts/grouped.cu.h and experts/grouped_tiles.cu.h.
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
#define KD_FORM 1
#define QUANTISED 1

#include "../weights/codes.cu.h"
#include "../experts/grouped.cu.h"
#include "../experts/grouped_tiles.cu.h"

KD_GROUPED_KERNELS(mlx_kd_gather_qgemm_gate_up)
