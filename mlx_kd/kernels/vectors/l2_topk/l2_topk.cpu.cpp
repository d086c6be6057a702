// l2_topk: the k rows of base of least squared L2 distance to each query.
//
// Inputs queries (M, D), base (N, D), float32 whatever the type of the call; outputs distances (M,
// k) and ids (M, k), the best first.
//
// Stage mlx_kd_l2_topk: a unit is a block of queries and a part of base. Stage
// mlx_kd_l2_topk_merge: a unit is a query.
#undef KD_DTYPE
#define KD_DTYPE 0
#ifndef VEC
#define VEC 16  // bytes of a vector of floats
#endif
#ifndef FEW
#define FEW 4  // queries that take rows of base as they are, at most
#endif
#ifndef PREFETCH
#define PREFETCH 0  // rows ahead that are fetched for them
#endif
#ifndef KD_DIM_M
#define KD_DIM_M 0
#define KD_DIM_N 1
#define KD_DIM_D 2
#define KD_DIM_k 3
#endif

#include "../flat.cpu.h"

extern "C" void mlx_kd_l2_topk(const kd_arguments* a, long begin, long end) {
  scan_parts<false>(a, begin, end);
}

extern "C" void mlx_kd_l2_topk_merge(const kd_arguments* a, long begin, long end) {
  merge_parts<false>(a, begin, end);
}
