// matvec_qkv: queries, keys and values of few rows of x in one call, W as MLX stores it.
//
// Inputs x (M, K); w of each; norm (K), a bias of each; outputs q (M, Nq), k (M, Nk), v (M, Nv).
//
// Stage mlx_kd_matvec_qkv: a unit is a row of x, which is normalised where there is a norm and put
// in the order in which the codes of W lie. Stage mlx_kd_matvec_qkv_rows: a unit is a row of the
// three matrices, one after the other.
#include "../rows/knobs.cpu.h"
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
#define QUANTISED 0

#include "../rows/queries.cpu.h"

extern "C" void mlx_kd_matvec_qkv(const kd_arguments* a, long begin, long end) {
  prepare(a, kNorm, begin, end);
}

extern "C" void mlx_kd_matvec_qkv_rows(const kd_arguments* a, long begin, long end) {
  put_queries(a, begin, end);
}
