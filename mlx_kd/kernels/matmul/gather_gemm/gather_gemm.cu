// gather_gemm: y = x W^T (+ bias) of many tokens, W that of each chosen expert.
//
//   mlx_kd_gather_gemm        pairs of token and expert by expert
//   mlx_kd_gather_gemm_any    any size, type and format, on ordinary units
//   mlx_kd_gather_gemm_rows   rows of x in that order, for tensor cores
//   mlx_kd_gather_gemm_tiles  of 16 bits, on tensor cores (sm_90a)
//
// See experts/grouped.cu.h and experts/grouped_tiles.cu.h.
#ifndef KD_DIM_M
#define KD_DIM_M 0
#define KD_DIM_A 1
#define KD_DIM_E 2
#define KD_DIM_N 3
#define KD_DIM_K 4
#define KD_DIM_per_pair 5
#define KD_DIM_has_bias 6
#endif
#define KD_FORM 0
#define QUANTISED 0

#include "../weights/tiles.cu.h"
#include "../experts/grouped.cu.h"
#include "../experts/grouped_tiles.cu.h"

KD_GROUPED_KERNELS(mlx_kd_gather_gemm)
