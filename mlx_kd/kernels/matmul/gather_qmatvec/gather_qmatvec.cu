// gather_qmatvec: y = x W^T (+ bias) of few rows of x, W that of each chosen expert, quantised as MLX stores it.
//
// A block takes tiles of rows of one expert's W and the row of x of one pair of token and expert. See
// experts.cu.h and codes.cu.h.
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
#define KD_FORM 0
#define QUANTISED 1
#define XROWS 1  // rows of x of a block

#include "../weights/codes.cu.h"
#include "../experts/experts.cu.h"
#include "../tiles/kernels.cu.h"

KD_KERNELS(mlx_kd_gather_qmatvec)
