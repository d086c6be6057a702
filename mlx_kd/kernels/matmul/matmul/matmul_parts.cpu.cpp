// matmul: y = act(alpha op(a) op(b) + beta c + bias), of operands that each unit packs as it goes:
// small products, many of them or with long sums.
//
// Stage mlx_kd_matmul_parts: a unit is a part of K of one product, of whole multiples of BLOCK_K
// steps; it packs BLOCK_K steps of both operands at a time. The stage's index is how many units a
// task has, and from bit 32 on how many parts a product has at most. Where a product is one part it
// is finished there; else its sums go to scratch, and in stage mlx_kd_matmul_parts_sums a unit is a
// tile of y. The index of that stage is how many parts there are.
#define PREFETCH 0
#include "../rows/knobs.cpu.h"
#ifndef TILE_M
#define TILE_M 4  // rows of a tile
#endif
#ifndef TILE_N
#define TILE_N 2  // vectors of columns of a tile
#endif
#ifndef BLOCK_K
#define BLOCK_K 256  // steps of K that are packed at a time
#endif

#include "../tiles/packed.cpu.h"
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

// Elements [k, k + depth) of an operand, of which panels that are not whole, or whose words do not
// lie side by side, are packed, `steps` steps each.
template <long kWidth>
struct Side {
  const Operand& from;
  long k, steps;
  float* packed;
  bool lies;

  long panels() const { return panels_of(from.count, kWidth); }
  bool is_whole(long p) const { return lies && (p + 1) * kWidth <= from.count; }
  float* panel(long p) const { return packed + p * steps * kWidth; }
  void pack(long depth) const {
    for (long p = 0; p < panels(); ++p)
      if (!is_whole(p)) pack_panel<kWidth>(from, p * kWidth, k, depth, panel(p));
  }
  Lying lying(long p) const {
    return {from.base + p * kWidth * from.across + k * from.along, from.across,
            from.along * kPerStep};
  }
};
typedef Side<kWidthA> Left;
typedef Side<kWidthB> Right;

// Whether the words of K of an operand are there: of op(a) one by one, of op(b) (kVectors) side by
// side.
KD_INLINE bool lies_in_words(const Operand& from, long depth, bool side_by_side) {
  if (sizeof(T) * kPerStep != sizeof(float)) return false;
  if (side_by_side) return kPerStep == 1 && from.across == 1;
  return kPerStep == 1 || (from.along == 1 && depth % kPerStep == 0);
}

static void add_tile_of(const Left& left, const Right& right, long p, long q, bool from_zero,
                        Floats* sums) {
  const long rows = least(kWidthA, left.from.count - p * kWidthA),
             columns = least(kWidthB, right.from.count - q * kWidthB), steps = left.steps;
  const Packed<kWidthB> b = {right.panel(q)};
  if (left.is_whole(p) && right.is_whole(q))
    add_tile<TILE_M, TILE_N>(left.lying(p), right.lying(q), steps, from_zero, sums);
  else if (left.is_whole(p) && columns > kLanes)
    add_tile<TILE_M, TILE_N>(left.lying(p), b, steps, from_zero, sums);
  else if (left.is_whole(p))
    add_tile<TILE_M, 1>(left.lying(p), b, steps, from_zero, sums);
  else if (right.is_whole(q))
    add_tile<TILE_M, TILE_N>(Packed<kWidthA>{left.panel(p)}, right.lying(q), steps, from_zero,
                             sums);
  else
    add_tile(left.panel(p), b.at, steps, from_zero, rows, columns, sums);
}

// Steps [from, to) of one product, summed to (panels of a, panels of b) tiles.
static void sum_part(const Operand& a, const Operand& b, long k, long from, long to, float* packed,
                     Floats* sums) {
  const long of_a = panels_of(a.count, kWidthA), of_b = panels_of(b.count, kWidthB);
  float* const packed_b = packed + of_a * kWidthA * BLOCK_K;
  for (long step = from; step < to; step += BLOCK_K) {
    const long begin = step * kPerStep, end = least(k, least(to, step + BLOCK_K) * kPerStep);
    const long depth = end - begin, steps = steps_of(depth);
    const Left left = {a, begin, steps, packed, lies_in_words(a, depth, false)};
    const Right right = {b, begin, steps, packed_b, lies_in_words(b, depth, true)};
    left.pack(depth), right.pack(depth);
    for (long q = 0; q < of_b; ++q)
      for (long p = 0; p < of_a; ++p)
        add_tile_of(left, right, p, q, step == from, sums + (p * of_b + q) * kTile);
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
