// ivfpq_topk: the k nearest vectors to each query in the lists that it probes, where a vector is
// the centroid of its list and S codes, each of which names a part of its rest.
//
// Inputs queries (M, D); codes (N, S) bytes; codebooks (S, D / S, 256), float32, the 256 parts of a
// code side by side; centroids (L, D); probes (M, P) int64, lists or -1; offsets (L + 1) int64,
// where the lists begin in codes; labels (N) int64. Outputs distances (M, k), ids (M, k).
//
// A query and a list make a table (S, 256): what each code adds to the distance. It is computed,
// not kept: that costs 256 D products.
//
// Stages as of ivf_topk: mlx_kd_ivfpq_topk_order, mlx_kd_ivfpq_topk, mlx_kd_ivfpq_topk_merge.
#undef KD_DTYPE
#define KD_DTYPE 0
#ifndef VEC
#define VEC 16  // bytes of a vector of floats
#endif
#ifndef TOGETHER
#define TOGETHER 8  // vectors whose codes are looked up together
#endif
#ifndef BYTES
#define BYTES 0  // 1: tables of bytes choose the vectors that are looked up
#endif
#ifndef KD_DIM_M
#define KD_DIM_M 0
#define KD_DIM_N 1
#define KD_DIM_D 2
#define KD_DIM_S 3
#define KD_DIM_P 4
#define KD_DIM_L 5
#define KD_DIM_k 6
#define KD_DIM_inner 7
#endif
#define KD_PROBES 4  // index of the input

#include "table.cpu.h"
#if BYTES && VEC == 64 && defined(__AVX512VBMI__)
#include "bytes.cpu.h"
#define KD_BYTES 1
#else
#define KD_BYTES 0
#endif

constexpr long kMostWidth = 8192;  // D at most

template <bool kInner>
static void scan_lists(const kd_arguments* a, long begin, long end) {
  const Probes probes = probes_of(a);
  const long width = a->dims[KD_DIM_D], k = a->dims[KD_DIM_k], count = a->dims[KD_DIM_S];
  const Codes codes = {(const unsigned char*)a->inputs[1], (const float*)a->inputs[2],
                       a->dims[KD_DIM_N], count, width / count};
  float rest[kMostWidth];
  Table table;
#if KD_BYTES
  ByteTable bytes;
#endif
  for (long unit = begin; unit < end && unit < probes.state[0]; ++unit) {
    const ProbeBlock found = probes.block(unit);
    const float* const centroid = (const float*)a->inputs[3] + found.list * width;
    for (long i = found.first; i < found.end; ++i) {
      const long pair = probes.order[i];
      const float* const q = (const float*)a->inputs[0] + pair / probes.each * width;
      if (!kInner)
        for (long j = 0; j < width; ++j) rest[j] = q[j] - centroid[j];
      make_table<kInner>(codes, kInner ? q : rest, kInner ? key_of<true>(q, centroid, width) : 0.0f,
                         table);
      const PairHeap heap = begin_heap(probes, pair, k);
#if KD_BYTES
      scan_bytes(codes, table, found.from, found.to, heap, bytes);
#else
      scan_codes(codes, table, found.from, found.to, heap);
#endif
      end_heap(heap);
    }
  }
}

template <bool kInner>
static void merge_lists(const kd_arguments* a, long begin, long end) {
  const Probes probes = probes_of(a);
  const long k = a->dims[KD_DIM_k];
  for (long i = begin; i < end; ++i) {
    const long at = i * probes.each * k;
    take_best(k, probes.each, probes.keys + at, probes.rows + at);
    put_found<kInner>(
        k, probes.keys + at, probes.rows + at,
        {(float*)a->outputs[0] + i * k, (long*)a->outputs[1] + i * k, (const long*)a->inputs[6]});
  }
}

extern "C" void mlx_kd_ivfpq_topk_order(const kd_arguments* a, long, long) {
  order_probes(a);
}

extern "C" void mlx_kd_ivfpq_topk(const kd_arguments* a, long begin, long end) {
  a->dims[KD_DIM_inner] ? scan_lists<true>(a, begin, end) : scan_lists<false>(a, begin, end);
}

extern "C" void mlx_kd_ivfpq_topk_merge(const kd_arguments* a, long begin, long end) {
  a->dims[KD_DIM_inner] ? merge_lists<true>(a, begin, end) : merge_lists<false>(a, begin, end);
}
