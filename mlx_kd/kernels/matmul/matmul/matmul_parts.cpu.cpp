// matmul: y = act(alpha op(a) op(b) + beta c + bias), of operands that each unit packs as it goes:
// small products, many of them or with long sums.
//
// Stage mlx_kd_matmul_parts: a unit is a part of K of one product, of whole multiples of BLOCK_K
// steps; it packs BLOCK_K steps of both operands at a time. The stage's index is how many units a
// task has, and from bit 32 on how many parts a product has at most. Where a product is one part it
// is finished there; else its sums go to scratch, and in stage mlx_kd_matmul_parts_sums a unit is a
// tile of y. The index of that stage is how many parts there are.
#define PREFETCH 0
#include "../knobs.cpu.h"
#ifndef TILE_M
#define TILE_M 4  // rows of a tile
#endif
#ifndef TILE_N
#define TILE_N 2  // vectors of columns of a tile
#endif
#ifndef BLOCK_K
#define BLOCK_K 256  // steps of K that are packed at a time
#endif

#include "../packed.cpu.h"
#include "call.cpu.h"

constexpr long kTile = TILE_M * TILE_N;  // vectors of the sums of a tile

// Parts of K of a call; the host says how many at most, of whole blocks each.
struct Parts {
  long count, steps;  // of each
};
KD_INLINE Parts parts_of(long steps, long most) {
  const long blocks = panels_of(steps, BLOCK_K), each = panels_of(blocks, most);
  return {panels_of(blocks, each), each * BLOCK_K};
}

static void pack_block(const Operand& a, const Operand& b, long k, long depth, float* left,
                       float* right) {
  const long steps = steps_of(depth);
  for (long p = 0; p * kWidthA < a.count; ++p)
    pack_panel<kWidthA>(a, p * kWidthA, k, depth, left + p * steps * kWidthA);
  for (long q = 0; q * kWidthB < b.count; ++q)
    pack_panel<kWidthB>(b, q * kWidthB, k, depth, right + q * steps * kWidthB);
}

// Steps [from, to) of one product, summed to (panels of a, panels of b) tiles.
static void sum_part(const Operand& a, const Operand& b, long k, long from, long to, float* packed,
                     Floats* sums) {
  const long of_a = panels_of(a.count, kWidthA), of_b = panels_of(b.count, kWidthB);
  float* const right = packed + of_a * kWidthA * BLOCK_K;
  for (long step = from; step < to; step += BLOCK_K) {
    const long begin = step * kPerStep, end = least(k, least(to, step + BLOCK_K) * kPerStep);
    const long some = steps_of(end - begin);
    pack_block(a, b, begin, end - begin, packed, right);
    for (long q = 0; q < of_b; ++q)
      for (long p = 0; p < of_a; ++p)
        add_tile(packed + p * some * kWidthA, right + q * some * kWidthB, some, step == from,
                 least(kWidthA, a.count - p * kWidthA), least(kWidthB, b.count - q * kWidthB),
                 sums + (p * of_b + q) * kTile);
  }
}

extern "C" void mlx_kd_matmul_parts(const kd_arguments* a, long begin, long end) {
  const Sizes size = sizes_of(a);
  const long steps = steps_of(size.k), each = a->stage & 0xffffffff;
  const Parts parts = parts_of(steps, a->stage >> 32);
  const long of_a = panels_of(size.m, kWidthA), of_b = panels_of(size.n, kWidthB);
  float* const packed =
      (float*)a->scratch[0] + begin / each * (of_a * kWidthA + of_b * kWidthB) * BLOCK_K;
  for (long unit = begin; unit < end; ++unit) {
    const long item = unit / parts.count, from = unit % parts.count * parts.steps;
    const long slot = parts.count > 1 ? unit : begin / each;
    Floats* const sums = (Floats*)a->scratch[1] + slot * of_a * of_b * kTile;
    sum_part(operand_a(a, item), operand_b(a, item), size.k, from, least(steps, from + parts.steps),
             packed, sums);
    if (parts.count > 1) continue;
    const Finish finish = finish_of(a, item);
    for (long tile = 0; tile < of_a * of_b; ++tile)
      finish_tile(finish, size.m, size.n, tile / of_b, tile % of_b, sums + tile * kTile);
  }
}

extern "C" void mlx_kd_matmul_parts_sums(const kd_arguments* a, long begin, long end) {
  const Sizes size = sizes_of(a);
  const long of_a = panels_of(size.m, kWidthA), of_b = panels_of(size.n, kWidthB);
  const long tiles = of_a * of_b, parts = a->stage;
  for (long unit = begin; unit < end; ++unit) {
    const long item = unit / tiles, tile = unit % tiles;
    const Floats* const from = (const Floats*)a->scratch[1] + (item * parts * tiles + tile) * kTile;
    Floats sums[kTile];
    for (long i = 0; i < kTile; ++i) {
      sums[i] = from[i];
      for (long part = 1; part < parts; ++part) sums[i] += from[part * tiles * kTile + i];
    }
    finish_tile(finish_of(a, item), size.m, size.n, tile / of_b, tile % of_b, sums);
  }
}
