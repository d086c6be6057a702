// The lists that queries probe, in the order in which they are read.
//
// A pair is a query and one of its P probes: query * P + place. Scratch 0 has the keys (M, P, k) of
// the pairs' heaps and scratch 1 their rows; scratch 2 the pairs in the order of their lists;
// scratch 3 the number of blocks, then for each block its list and its pairs, then L + 1 counts.
// The stage says how many queries a block has at most.
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

  ProbeBlock block(long unit) const {
    const long* const at = state + 1 + unit * kBlockFields;
    return {at[0], at[1], at[2], offsets[at[0]], offsets[at[0] + 1]};
  }
};

KD_INLINE Probes probes_of(const kd_arguments* a) {
  const long each = a->dims[KD_DIM_P];
  return {(const long*)a->inputs[KD_PROBES],
          (const long*)a->inputs[KD_PROBES + 1],
          a->dims[KD_DIM_M] * each,
          each,
          a->dims[KD_DIM_L],
          a->stage,
          (float*)a->scratch[0],
          (unsigned*)a->scratch[1],
          (unsigned*)a->scratch[2],
          (long*)a->scratch[3]};
}

// Whether a probe names a list with vectors.
KD_INLINE bool is_probed(const Probes& probes, long list) {
  return list >= 0 && list < probes.list_count && probes.offsets[list] < probes.offsets[list + 1];
}

static void order_probes(const kd_arguments* a) {
  const Probes probes = probes_of(a);
  const long lists = probes.list_count;
  const long bound = probes.pairs / probes.most + (probes.pairs < lists ? probes.pairs : lists);
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
}
