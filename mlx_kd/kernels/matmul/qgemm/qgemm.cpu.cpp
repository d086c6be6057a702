// qgemm: y = x W^T (+ bias) (+ residual) for many rows of x, quantised W as MLX stores it.
//
// Inputs x (M, K); w, scales, biases; norm (K), bias (N), residual (M, N); output y (M, N).
//
// Stage mlx_kd_qgemm: a unit is a block of rows of x, which are normalised where there is a norm
// and put in the order in which tiles read them. Stage mlx_kd_qgemm_panels: a unit is a panel of W.
#include "../rows/knobs.cpu.h"
#ifndef PANEL
#define PANEL 2048  // columns of W that are decoded at once, at most
#endif
#ifndef KD_DIM_M
#define KD_DIM_M 0
#define KD_DIM_N 1
#define KD_DIM_K 2
#define KD_DIM_bits 3
#define KD_DIM_group 4
#define KD_DIM_mode 5
#define KD_DIM_has_norm 6
#define KD_DIM_has_bias 7
#define KD_DIM_has_residual 8
#define KD_SCALAR_eps 0
#endif
#define QUANTISED 1

#include "../tiles/panels.cpu.h"

extern "C" void mlx_kd_qgemm(const kd_arguments* a, long begin, long end) {
  prepare_blocks(a, begin, end);
}

extern "C" void mlx_kd_qgemm_panels(const kd_arguments* a, long begin, long end) {
  put_panels(a, begin, end);
}
