// Products of many tokens with chosen experts. Pairs of token and expert are grouped by expert; the
// rows of x of an expert are then those of a product of its own: in tiles (tiles.cpu.h), or, where
// they are few, as two streams (rows.cpu.h), which read W as it lies.
//
// Scratch: 0 the groups, 1 the prepared x, 2 the sums of its groups. An expert's rows begin at a
// block of kTileRows in both. Macros: those of expert_arrays.cpu.h and tiles.cpu.h, and
//
//   FEW  rows of an expert at most that are multiplied as streams
#ifndef FEW
#define FEW 16
#endif
#pragma once
#define MOST_ROWS 4
#include "expert_arrays.cpu.h"
#include "../tiles/tiles.cpu.h"

// Group E is of the pairs whose id is that of no expert.
struct Groups {
  int* first;    // (E + 3): of the pairs in `pairs`, by group
  int* block;    // (E + 1): the first block of each expert, then how many there are
  int* pairs;    // (M A), by group
  int* experts;  // of each block
};

static Groups groups_of(const kd_arguments* a) {
  const long experts = a->dims[KD_DIM_E], pairs = a->dims[KD_DIM_M] * a->dims[KD_DIM_A];
  int* const first = (int*)a->scratch[0];
  int* const block = first + experts + 3;
  return {first, block, block + experts + 1, block + experts + 1 + pairs};
}

// The only unit: pairs are counted, then put behind one another in their order.
static void group_pairs(const kd_arguments* a) {
  const Groups groups = groups_of(a);
  const long experts = a->dims[KD_DIM_E], pairs = a->dims[KD_DIM_M] * a->dims[KD_DIM_A];
  const unsigned* const ids = (const unsigned*)a->inputs[1];
  const auto group = [&](long pair) {
    return ids[pair] < (unsigned long)experts ? long(ids[pair]) : experts;
  };
  for (long i = 0; i < experts + 3; ++i) groups.first[i] = 0;
  for (long pair = 0; pair < pairs; ++pair) ++groups.first[group(pair) + 2];
  for (long i = 2; i < experts + 3; ++i) groups.first[i] += groups.first[i - 1];
  for (long pair = 0; pair < pairs; ++pair)
    groups.pairs[groups.first[group(pair) + 1]++] = int(pair);
  long block = 0;
  for (long i = 0; i < experts; ++i) {
    groups.block[i] = int(block);
    const long rows = groups.first[i + 1] - groups.first[i];
    for (const long end = block + (rows + kTileRows - 1) / kTileRows; block < end; ++block)
      groups.experts[block] = int(i);
  }
  groups.block[experts] = int(block);
}

// The row of x of a pair.
static const T* row_of_pair(const kd_arguments* a, long pair) {
  const long row = a->dims[KD_DIM_per_pair] ? pair : pair / a->dims[KD_DIM_A];
  return (const T*)a->inputs[0] + row * a->dims[KD_DIM_K];
}

// One expert of a call, whose rows of x are `pairs`.
struct Expert {
  long index;
  Shape shape;
  Prepared x;
  const int* pairs;

  bool is_streamed() const { return shape.m <= FEW; }
};

static Expert expert_of(const kd_arguments* a, const Groups& groups, long index) {
  const long first = groups.first[index], slot = groups.block[index] * kTileRows;
  const Shape shape = shape_of(a, groups.first[index + 1] - first);
  const long columns = (shape.k + 255) / 256 * 256, sums = (shape.groups + 15) / 16 * 16;
  char* const from = (char*)a->scratch[1] + slot * columns * (KD_DTYPE == 0 ? 6 : 4);
  const Prepared x = {(unsigned short*)from, (float*)from, (float*)a->scratch[2] + slot * sums,
                      nullptr};
  return {index, shape, x, groups.pairs + first};
}

// A unit is a block of rows of x.
static void prepare_blocks(const kd_arguments* a, long begin, long end) {
  const Groups groups = groups_of(a);
  const long blocks = groups.block[a->dims[KD_DIM_E]];
  for (long block = begin; block < end && block < blocks; ++block) {
    const Expert expert = expert_of(a, groups, groups.experts[block]);
    const long first = (block - groups.block[expert.index]) * kTileRows;
    const auto row_at = [&](long row) { return row_of_pair(a, expert.pairs[row]); };
    for (long row = first; row < first + kTileRows && row < expert.shape.m; ++row)
      if (expert.is_streamed())
        prepare_row(expert.shape, row_at(row), nullptr, 0, row, expert.x);
      else
        finished_row(expert.shape, row_at(row), nullptr, 0, row, expert.x);
    if (!expert.is_streamed()) pack_block(expert.shape, row_at, first, expert.x);
  }
}

// A unit is a panel of kTileColumns rows of W, of each expert in turn, then of the pairs that have
// none: their results are NaN. put(expert, first row of W, row behind the last).
template <class Put>
static void each_expert(const kd_arguments* a, long begin, long end, const Put& put) {
  const Groups groups = groups_of(a);
  const long columns = a->dims[KD_DIM_N], panels = (columns + kTileColumns - 1) / kTileColumns;
  while (begin < end) {
    const long index = begin / panels, first = begin % panels;
    const long count = panels - first < end - begin ? panels - first : end - begin;
    const long from = first * kTileColumns, to = (first + count) * kTileColumns;
    const long last = to < columns ? to : columns;
    begin += count;
    if (index < a->dims[KD_DIM_E]) {
      const Expert expert = expert_of(a, groups, index);
      if (expert.shape.m > 0) put(expert, from, last);
      continue;
    }
    for (long i = groups.first[index]; i < groups.first[index + 1]; ++i)
      put_nan((T*)a->outputs[0] + groups.pairs[i] * columns + from, last - from);
  }
}

// Where an expert's products go: to the rows of its pairs.
struct Scattered {
  T* y;
  const int* pairs;
  long columns;
  const T* bias;  // (columns), or null

  T* at(long m, long row) const { return y + pairs[m] * columns + row; }
  void put(long m, long row, long count, Floats product) const {
    const Results results = {y + pairs[m] * columns, columns, bias, nullptr};
    results.put(0, row, count, product);
  }
};

static Scattered scattered(const kd_arguments* a, const Expert& expert, int bias) {
  return {(T*)a->outputs[0], expert.pairs, a->dims[KD_DIM_N], bias_of(a, bias, expert.index)};
}

// Products with rows [from, to) of a matrix, in panels; put(m, row, count, products).
template <class Put>
static void put_panels(const kd_arguments* a, const Expert& expert, int matrix, long from, long to,
                       const Put& put) {
  const long columns = a->dims[KD_DIM_N];
  const Matrix w = matrix_of(a, matrix, expert.index);
  const auto sink = [&](long m, long row, Floats sums) {
    put(m, row, columns - row < kLanes ? columns - row : kLanes, sums);
  };
  for (; from < to; from += kTileColumns)
    panel_product(expert.shape, expert.x, w, from, columns, sink);
}
