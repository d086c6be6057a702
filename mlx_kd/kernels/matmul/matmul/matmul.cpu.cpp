// matmul: y = act(alpha op(a) op(b) + beta c + bias), of operands that are packed whole.
//
// Stage mlx_kd_matmul: a unit is a panel of op(a) or of op(b), packed to scratch. Stage
// mlx_kd_matmul_blocks: a unit is a block of y of about BLOCK_M rows and BLOCK_N columns, whose
// sums stay in the task's scratch while K goes by in parts of BLOCK_K; the stage's index is how
// many units a task has.
#include "../rows/knobs.cpu.h"
#ifndef TILE_M
#define TILE_M 4  // rows of a tile
#endif
#ifndef TILE_N
#define TILE_N 2  // vectors of columns of a tile
#endif
#ifndef BLOCK_M
#define BLOCK_M 256  // rows of a block at most, before it is whole tiles
#endif
#ifndef BLOCK_N
#define BLOCK_N 512  // columns of a block at most
#endif
#ifndef BLOCK_K
#define BLOCK_K 256  // steps of K that are multiplied at a time
#endif

#include "../tiles/packed.cpu.h"
#include "call.cpu.h"

// Of one axis of y: panels, and how they are shared among blocks.
struct Cut {
  long panels, blocks, each;  // panels of a block
};
// At least four of an axis of few products, so that threads have a share of small ones.
KD_INLINE Cut cut(long count, long width, long block, long batch) {
  const long panels = panels_of(count, width), fewest = batch < 4 ? least(4, panels) : 1;
  const long blocks = panels_of(count, block) > fewest ? panels_of(count, block) : fewest;
  return {panels, blocks, panels_of(panels, blocks)};
}

// Where panel p of an operand is at step `from`, of which `some` are multiplied at a time: all
// panels of a part of K lie one behind the other.
KD_INLINE long place_of(long panels, long width, long p, long from, long some) {
  return (from * panels + p * some) * width;
}

template <long kWidth, bool kFirst>
static void pack_whole(const Operand& operand, long p, long k, float* to) {
  const long panels = panels_of(operand.count, kWidth), steps = steps_of(k);
  for (long from = 0; from < steps; from += BLOCK_K) {
    const long first = from * kPerStep, some = least(BLOCK_K, steps - from);
    const long depth = least(k - first, BLOCK_K * kPerStep);
    float* const part = to + place_of(panels, kWidth, p, from, some);
#if KD_MATRICES
    if (kFirst) {
      pack_rows(operand, p * kWidth, first, depth, part);
      continue;
    }
#endif
    pack_panel<kWidth>(operand, p * kWidth, first, depth, part);
  }
}

extern "C" void mlx_kd_matmul(const kd_arguments* a, long begin, long end) {
  const Sizes size = sizes_of(a);
  const long of_a = panels_of(size.m, kWidthA), of_b = panels_of(size.n, kWidthB);
  const long steps = steps_of(size.k);
  for (long unit = begin; unit < end; ++unit) {
    const long item = unit / (of_a + of_b), panel = unit % (of_a + of_b);
    if (panel < of_a)
      pack_whole<kWidthA, true>(operand_a(a, item), panel, size.k,
                                (float*)a->scratch[0] + item * of_a * steps * kWidthA);
    else
      pack_whole<kWidthB, false>(operand_b(a, item), panel - of_a, size.k,
                                 (float*)a->scratch[1] + item * of_b * steps * kWidthB);
  }
}

// Panels [first, first + count) of an operand, and what there is of rows or columns.
struct Part {
  const float* panels;
  long first, count, all;

  const float* at(long width, long p, long from, long some) const {
    return panels + place_of(panels_of(all, width), width, first + p, from, some);
  }
};

static void put_block(const Part& left, const Part& right, long k, Floats* held,
                      const Finish& finish) {
  const long steps = steps_of(k);
  for (long from = 0; from == 0 || from < steps; from += BLOCK_K) {
    const long some = least(BLOCK_K, steps - from);
    const bool is_last = from + some >= steps;
    for (long q = 0; q < right.count; ++q) {
      const float* const b = right.at(kWidthB, q, from, some);
      [[maybe_unused]] const long columns = least(kWidthB, right.all - (right.first + q) * kWidthB);
      for (long p = 0; p < left.count; ++p) {
        const long rows = least(kWidthA, left.all - (left.first + p) * kWidthA);
        Floats* const sums = held + (q * left.count + p) * TILE_M * TILE_N;
#if !KD_MATRICES
        add_tile(left.at(kWidthA, p, from, some), b, some, from == 0, rows, columns, sums);
#else
        add_matrices(left.at(kWidthA, p, from, some), b, some, from == 0, rows, sums);
#endif
        if (is_last)
          finish_tile(finish, left.all, right.all, left.first + p, right.first + q, sums);
      }
    }
  }
}

extern "C" void mlx_kd_matmul_blocks(const kd_arguments* a, long begin, long end) {
#if KD_MATRICES
  const TileRegisters registers(kPairsOfStep);
#endif
  const Sizes size = sizes_of(a);
  const long steps = steps_of(size.k);
  const Cut rows = cut(size.m, kWidthA, BLOCK_M, size.batch),
            columns = cut(size.n, kWidthB, BLOCK_N, size.batch);
  Floats* const held =
      (Floats*)a->scratch[2] + begin / a->stage * rows.each * columns.each * TILE_M * TILE_N;
  for (long unit = begin; unit < end; ++unit) {
    const long item = unit / (rows.blocks * columns.blocks),
               block = unit % (rows.blocks * columns.blocks);
    const long p = block / columns.blocks * rows.each, q = block % columns.blocks * columns.each;
    const Part left = {(const float*)a->scratch[0] + item * rows.panels * steps * kWidthA, p,
                       least(rows.each, rows.panels - p), size.m};
    const Part right = {(const float*)a->scratch[1] + item * columns.panels * steps * kWidthB, q,
                        least(columns.each, columns.panels - q), size.n};
    if (left.count > 0 && right.count > 0) put_block(left, right, size.k, held, finish_of(a, item));
  }
}
