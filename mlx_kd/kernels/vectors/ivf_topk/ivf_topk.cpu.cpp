// ivf_topk: the k nearest vectors to each query in the lists that it probes.
//
// Inputs queries (M, D) and vectors (N, D), float32; probes (M, P) int64, lists or -1; offsets (L +
// 1) int64, where the lists begin in vectors; labels (N) int64. Outputs distances (M, k), ids (M,
// k).
//
// Stage mlx_kd_ivf_topk_order: one unit sorts the probes by list and cuts those of a list into
// blocks, so that a list is read once for all queries of a block. Stage mlx_kd_ivf_topk: a unit is
// a block. Stage mlx_kd_ivf_topk_merge: a unit is a query.
#undef KD_DTYPE
#define KD_DTYPE 0
#ifndef VEC
#define VEC 16  // bytes of a vector of floats
#endif
#ifndef FEW
#define FEW 4  // queries that take vectors as they are, at most
#endif
#ifndef PREFETCH
#define PREFETCH 0  // vectors ahead that are fetched for them
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

#define KD_PROBES 2  // index of the input

#include "../nearest.cpu.h"
#include "../probes.cpu.h"

template <bool kInner>
static void scan_lists(const kd_arguments* a, long begin, long end) {
  const Probes probes = probes_of(a);
  const float* const queries = (const float*)a->inputs[0];
  const long width = a->dims[KD_DIM_D], k = a->dims[KD_DIM_k];
  for (long unit = begin; unit < end && unit < probes.state[0]; ++unit) {
    const ProbeBlock found = probes.block(unit);
    Block block;
    PairHeap heaps[kMostQueries];
    block.count = found.end - found.first;
    for (long i = 0; i < block.count; ++i) {
      const long pair = probes.order[found.first + i];
      block.x[i] = queries + pair / probes.each * width;
      heaps[i] = begin_heap(probes, pair, k);
      block.keys[i] = heaps[i].keys, block.rows[i] = heaps[i].rows;
    }
    scan<kInner>(block, {(const float*)a->inputs[1], found.from, found.to, width}, k);
    for (long i = 0; i < block.count; ++i) end_heap(heaps[i]);
  }
}

template <bool kInner>
static void merge_lists(const kd_arguments* a, long begin, long end) {
  const Probes probes = probes_of(a);
  const long width = a->dims[KD_DIM_D], k = a->dims[KD_DIM_k];
  for (long i = begin; i < end; ++i) {
    const long at = i * probes.each * k;
    merge<kInner>(
        (const float*)a->inputs[0] + i * width, (const float*)a->inputs[1], width, k, probes.each,
        probes.keys + at, probes.rows + at,
        {(float*)a->outputs[0] + i * k, (long*)a->outputs[1] + i * k, (const long*)a->inputs[4]});
  }
}

extern "C" void mlx_kd_ivf_topk_order(const kd_arguments* a, long, long) {
  order_probes(a);
}

extern "C" void mlx_kd_ivf_topk(const kd_arguments* a, long begin, long end) {
  a->dims[KD_DIM_inner] ? scan_lists<true>(a, begin, end) : scan_lists<false>(a, begin, end);
}

extern "C" void mlx_kd_ivf_topk_merge(const kd_arguments* a, long begin, long end) {
  a->dims[KD_DIM_inner] ? merge_lists<true>(a, begin, end) : merge_lists<false>(a, begin, end);
}
