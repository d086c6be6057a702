// qmatvec_gate_up: act(x Wg^T) (x Wu^T) for few rows of x, quantised W as MLX stores them.
//
// A block takes tiles of rows of W, x goes through its norm in each block, and what is done with the
// products follows in the same kernel: one stage. See forms.cu.h and codes.cu.h.
#ifndef KD_DIM_M
#define KD_DIM_M 0
#define KD_DIM_N 1
#define KD_DIM_K 2
#define KD_DIM_activation 3
#define KD_DIM_bits 4
#define KD_DIM_group 5
#define KD_DIM_mode 6
#define KD_DIM_has_norm 7
#define KD_SCALAR_eps 0
#endif
#define KD_FORM 1
#define QUANTISED 1

#include "../weights/codes.cu.h"
#include "../tiles/forms.cu.h"
#include "../tiles/kernels.cu.h"

KD_KERNELS(mlx_kd_qmatvec_gate_up)
