// Tiles of products in tile registers: kTileRows = 32 rows of x times the 32 columns of a panel. A
// step is 16 pairs of columns of K, of groups of 16 columns 8.
//
// x of a call is (blocks, steps, kTileRows, pairs of a step) pairs of bfloat16, zeros behind the
// last row and column.
#pragma once
#include "../../common/tile_registers.cpu.h"

KD_INLINE long pairs_of_step(const Shape& shape) {
  return shape.format != kDense && shape.group < 32 ? shape.group / 2 : kPairsOfStep;
}

// sums += scale * made (+ bias * the sum of x in the group), of rows `row` and on.
template <int kRows>
KD_INLINE void add_group(const Shape& shape, const Prepared& x, const Panel& panel, long row,
                         long group, long in_panel, const Floats* made, Floats* sums) {
  const Floats scales[2] = {panel.scales[2 * in_panel], panel.scales[2 * in_panel + 1]};
  if (shape.format != kAffine) {
    for (int i = 0; i < kRows; ++i)
      sums[2 * i] += made[2 * i] * scales[0], sums[2 * i + 1] += made[2 * i + 1] * scales[1];
    return;
  }
  const Floats biases[2] = {panel.biases[2 * in_panel], panel.biases[2 * in_panel + 1]};
  const float* const totals = x.sums + group / kLanes * kLanes * shape.m + group % kLanes;
  for (int i = 0; i < kRows; ++i) {
    const float total = totals[(row + i < shape.m ? row + i : shape.m - 1) * kLanes];
    sums[2 * i] += made[2 * i] * scales[0] + biases[0] * total;
    sums[2 * i + 1] += made[2 * i + 1] * scales[1] + biases[1] * total;
  }
}

// Adds 32 rows of x, or 16 if not kBoth, from `row` on, times the panel to sums (rows, 2).
template <bool kBoth>
static void add_matrix_rows(const Shape& shape, const Prepared& x, const Panel& panel, long row,
                            long k, long count, Floats* sums) {
  const long pairs = pairs_of_step(shape);
  const float* block = x.floats + row / kTileRows * block_floats(shape) + k / 2 * kTileRows;
  if (shape.format == kDense) {
    load_sums<kBoth>(sums);
    multiply_steps<kBoth>(block, panel.values, pairs, (count + 31) / 32);
    store_sums<kBoth>(sums);
    return;
  }
  const long steps = shape.group / 2 / pairs, words = shape.group / 2;
  Floats made[kBoth ? 64 : 32];
  for (long g = 0; g * shape.group < count; ++g) {
    zero_sums<kBoth>();
    multiply_steps<kBoth>(block + g * words * kTileRows, panel.values + 2 * g * words, pairs,
                          steps);
    store_sums<kBoth>(made);
    add_group<kBoth ? 32 : 16>(shape, x, panel, row, k / shape.group + g, g, made, sums);
  }
}

// Rows of x [row, row + kTileRows) times the panel.
KD_INLINE void add_matrices(const Shape& shape, const Prepared& x, const Panel& panel, long row,
                            long k, long count, Floats* sums) {
  if (shape.m - row > kTileRows / 2)
    add_matrix_rows<true>(shape, x, panel, row, k, count, sums);
  else
    add_matrix_rows<false>(shape, x, panel, row, k, count, sums);
}

// pack_block in the order of tile registers.
template <class RowAt>
static void pack_matrices(const Shape& shape, const RowAt& row_at, long first, const Prepared& to) {
  const long pairs = pairs_of_step(shape);
  const Halves order = pair_order(pair_distance(shape));
  float* const block = to.floats + first / kTileRows * block_floats(shape);
  for (long r = 0; r < kTileRows; ++r) {
    const T* const row = first + r < shape.m ? row_at(first + r) : nullptr;
    for (long j = 0; j < shape.k; j += 32) {
      Floats words = {};
      if (row) {
        const Halves columns =
            shape.k - j >= 32 ? take<Halves>(row + j) : take_some<Halves>(row + j, shape.k - j);
        words = (Floats)look_up(columns, order);
      }
      const float* from = (const float*)&words;
      for (long pair = j / 2; pair < j / 2 + 16; pair += pairs, from += pairs)
        __builtin_memcpy(block + (pair / pairs * kTileRows + r) * pairs, from,
                         pairs * sizeof(float));
    }
  }
}
