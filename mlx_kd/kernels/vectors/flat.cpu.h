// The k nearest of all rows to each query. A unit of the first stage is a block of queries and a
// part of the rows, whose heaps go into scratch 0 (M, parts, k) and 1; a unit of the second is a
// query. The stage says how many queries a block has (times 2^32) and how many parts there are.
#pragma once
#include "nearest.cpu.h"

struct Flat {
  const float *queries, *base;
  long m, n, width, k, parts, each;
  float* keys;
  unsigned* rows;
};

KD_INLINE Flat flat_of(const kd_arguments* a) {
  return {(const float*)a->inputs[0], (const float*)a->inputs[1],
          a->dims[KD_DIM_M],          a->dims[KD_DIM_N],
          a->dims[KD_DIM_D],          a->dims[KD_DIM_k],
          a->stage & 0xffffffff,      a->stage >> 32,
          (float*)a->scratch[0],      (unsigned*)a->scratch[1]};
}

template <bool kInner>
static void scan_parts(const kd_arguments* a, long begin, long end) {
  const Flat flat = flat_of(a);
  for (long unit = begin; unit < end; ++unit) {
    const long from = unit / flat.parts * flat.each, part = unit % flat.parts;
    Block block;
    block.count = flat.m - from < flat.each ? flat.m - from : flat.each;
    for (long i = 0; i < block.count; ++i) {
      const long at = ((from + i) * flat.parts + part) * flat.k;
      block.x[i] = flat.queries + (from + i) * flat.width;
      block.keys[i] = flat.keys + at, block.rows[i] = flat.rows + at;
      make_empty(block.keys[i], block.rows[i], flat.k);
    }
    const Rows rows = {flat.base, flat.n * part / flat.parts, flat.n * (part + 1) / flat.parts,
                       flat.width};
    scan<kInner>(block, rows, flat.k);
  }
}

template <bool kInner>
static void merge_parts(const kd_arguments* a, long begin, long end) {
  const Flat flat = flat_of(a);
  for (long i = begin; i < end; ++i) {
    const long at = i * flat.parts * flat.k;
    merge<kInner>(flat.queries + i * flat.width, flat.base, flat.width, flat.k, flat.parts,
                  flat.keys + at, flat.rows + at,
                  {(float*)a->outputs[0] + i * flat.k, (long*)a->outputs[1] + i * flat.k, nullptr});
  }
}
