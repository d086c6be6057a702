// clang-format off
// l2_topk: the k rows of base of least squared L2 distance to each query; ../flat.cu.h says how.
//
// Inputs queries (M, D), base (N, D), float32 whatever the type of the call; outputs distances (M, k) and ids (M, k),
// the best first.
#undef KD_DTYPE
#define KD_DTYPE 0
#define INNER 0
#ifndef KD_DIM_M
#define KD_DIM_M 0
#define KD_DIM_N 1
#define KD_DIM_D 2
#define KD_DIM_k 3
#endif

#include "../scan.cu.h"

KD_FLAT_KERNELS(mlx_kd_l2_topk)
