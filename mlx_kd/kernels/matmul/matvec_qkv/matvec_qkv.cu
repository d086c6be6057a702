// matvec_qkv: queries, keys and values of few rows of x.
//
// A block takes tiles of rows of W, x goes through its norm in each block, and what is done with the
// products follows in the same kernel: one stage. See forms.cu.h and elements.cu.h.
#ifndef KD_DIM_M
#define KD_DIM_M 0
#define KD_DIM_Nq 1
#define KD_DIM_Nk 2
#define KD_DIM_Nv 3
#define KD_DIM_K 4
#define KD_DIM_has_norm 5
#define KD_DIM_has_bias 6
#define KD_SCALAR_eps 0
#endif
#define KD_FORM 2
#define QUANTISED 0

#include "../weights/elements.cu.h"
#include "../tiles/forms.cu.h"
#include "../tiles/kernels.cu.h"

KD_KERNELS(mlx_kd_matvec_qkv)
