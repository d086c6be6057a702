// The lists that queries probe, in the order in which they are read.
//
// A pair is a query and one of its P probes: query * P + place. Scratch 0 has the keys (M, P, k) of
// the pairs' heaps and scratch 1 their rows; scratch 2 the pairs in the order of their lists;
// scratch 3 the number of blocks, then for each block its list and its pairs, then L + 1 counts,
// then for each query a limit: k vectors with keys up to it were found. Heaps that are begun later
// take no larger ones, so the result does not depend on which lists were first. The stage says how
// many queries a block has at most.
#ifndef KD_PROBES
#define KD_PROBES 2  // index of the input probes; offsets are behind it
#endif
#pragma once
#include "heaps.cpu.h"

constexpr long kBlockFields = 3;  // list, first pair, one after the last

// Pairs [first, end) in order, vectors [from, to).
struct ProbeBlock {
  long list, first, end, from, to;
};

struct Probes {
  const long *lists, *offsets;
  long pairs, each, list_count, most;
  float* keys;
  unsigned* rows;
  unsigned* order;
  long* state;
  float* limits;

  ProbeBlock block(long unit) const {
    const long* const at = state + 1 + unit * kBlockFields;
    return {at[0], at[1], at[2], offsets[at[0]], offsets[at[0] + 1]};
  }
};

// Blocks at most.
KD_INLINE long most_blocks(long pairs, long lists, long most) {
  return pairs / most + (pairs < lists ? pairs : lists);
}

KD_INLINE Probes probes_of(const kd_arguments* a) {
  const long each = a->dims[KD_DIM_P], pairs = a->dims[KD_DIM_M] * each, lists = a->dims[KD_DIM_L];
  long* const state = (long*)a->scratch[3];
  return {(const long*)a->inputs[KD_PROBES],
          (const long*)a->inputs[KD_PROBES + 1],
          pairs,
          each,
          lists,
          a->stage,
          (float*)a->scratch[0],
          (unsigned*)a->scratch[1],
          (unsigned*)a->scratch[2],
          state,
          (float*)(state + 1 + most_blocks(pairs, lists, a->stage) * kBlockFields + lists + 1)};
}

// Whether a probe names a list with vectors.
KD_INLINE bool is_probed(const Probes& probes, long list) {
  return list >= 0 && list < probes.list_count && probes.offsets[list] < probes.offsets[list + 1];
}

static void order_probes(const kd_arguments* a) {
  const Probes probes = probes_of(a);
  const long lists = probes.list_count;
  const long bound = most_blocks(probes.pairs, lists, probes.most);
  long* const starts = probes.state + 1 + bound * kBlockFields;  // (L + 1)
  for (long i = 0; i <= lists; ++i) starts[i] = 0;
  for (long pair = 0; pair < probes.pairs; ++pair)
    if (is_probed(probes, probes.lists[pair])) ++starts[probes.lists[pair] + 1];
  long blocks = 0;
  for (long i = 0; i < lists; ++i) {
    const long first = starts[i], end = first + starts[i + 1];
    starts[i + 1] = end;
    for (long from = first; from < end; from += probes.most, ++blocks) {
      long* const block = probes.state + 1 + blocks * kBlockFields;
      block[0] = i, block[1] = from, block[2] = end - from < probes.most ? end : from + probes.most;
    }
  }
  probes.state[0] = blocks;
  for (long pair = 0; pair < probes.pairs; ++pair)
    if (is_probed(probes, probes.lists[pair]))
      probes.order[starts[probes.lists[pair]]++] = unsigned(pair);
  const long entries = probes.pairs * a->dims[KD_DIM_k];
  make_empty(probes.keys, probes.rows, entries);
  for (long i = 0; i < a->dims[KD_DIM_M]; ++i) probes.limits[i] = kInfinity;
}

// The heap of a pair, which takes keys up to the limit of its query.
struct PairHeap {
  float *keys, *limit;
  unsigned* rows;
  long k;

  void offer(float key, long row) const {
    if (key < kInfinity && is_worse(keys[0], rows[0], key, unsigned(row)))
      sift(keys, rows, k, 0, key, unsigned(row));
  }
};

KD_INLINE PairHeap begin_heap(const Probes& probes, long pair, long k) {
  const PairHeap heap = {probes.keys + pair * k, probes.limits + pair / probes.each,
                         probes.rows + pair * k, k};
  float limit;
  __atomic_load(heap.limit, &limit, __ATOMIC_RELAXED);
  if (limit < kInfinity && limit > -kInfinity)
    for (long i = 0; i < k; ++i)
      heap.keys[i] = limit + ((limit < 0 ? -limit : limit) * 1e-6f + 1e-30f);
  return heap;
}

KD_INLINE void end_heap(const PairHeap& heap) {
  float limit;
  __atomic_load(heap.limit, &limit, __ATOMIC_RELAXED);
  if (heap.rows[0] != kNone && heap.keys[0] < limit)
    __atomic_store(heap.limit, heap.keys, __ATOMIC_RELAXED);
}
