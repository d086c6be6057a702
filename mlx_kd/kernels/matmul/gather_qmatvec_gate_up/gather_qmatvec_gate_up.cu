// gather_qmatvec_gate_up: act(x Wg^T (+ bias)) * (x Wu^T (+ bias)) of few rows of x, Wg and Wu those of each chosen
// expert, quantised as MLX stores them.
//
// A block takes tiles of rows of one expert's W and the row of x of one pair of token and expert. See
// experts.cu.h and codes.cu.h.
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
#define XROWS 1  // rows of x of a block

#include "../weights/codes.cu.h"
#include "../experts/experts.cu.h"
#include "../tiles/kernels.cu.h"

KD_KERNELS(mlx_kd_gather_qmatvec_gate_up)
