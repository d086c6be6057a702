// clang-format off
// ivf_topk: the k nearest vectors to each query in the lists that it probes.
//
// Inputs queries (M, D) and vectors (N, D), float32; probes (M, P) int64, lists or -1; offsets (L + 1) int64, where the
// lists begin in vectors; labels (N) int64. Outputs distances (M, k), ids (M, k).
//
//   begin    what is counted is 0
//   count    how many queries probe each list
//   cut      one block: where the queries of each list begin, and its items: up to 4 queries and up to 256 vectors
//   order    the queries, list after list
//   prepare  one block, in the place of these four where there are few pairs and lists
//   items    keys of an item's vectors in float32, a vector by a warp, which reads it once for all queries of the item.
//            The k-th least key of an item is a limit of its query from then on; what is not above the query's
//            limit becomes a candidate (index: the capacity of a query)
//   finish   as that of flat.cu.h, with all vectors of a query's lists where it has too many candidates
//
// Scratch: 0 to 2 as in candidates.cu.h; 3 for each list how many queries it has, their first, its first item and how
// many were ordered (L + 1 each), then the queries, list after list.
#undef KD_DTYPE
#define KD_DTYPE 0
#ifndef RESIDENT
#define RESIDENT 3  // blocks of items that a multiprocessor has room for
#endif
#ifndef KD_DIM_M
#define KD_DIM_M 0
#define KD_DIM_N 1
#define KD_DIM_D 2
#define KD_DIM_P 3
#define KD_DIM_L 4
#define KD_DIM_k 5
#define KD_DIM_inner 6
#endif
#define INNER (a.dims[KD_DIM_inner] != 0)

#include "../items.cu.h"

KD_LIST_KERNELS(mlx_kd_ivf_topk)

extern "C" __global__ void __launch_bounds__(256, RESIDENT) mlx_kd_ivf_topk_items(const __grid_constant__ kd_arguments a) {
  look_at_items(a);
}
