// attention_quantized: y = softmax(scale q k^T) v for each head, with keys and values as codes.
//
// inputs q (B, Hq, M, Dk); codes, scales and biases of keys, then of values, (B, Hk, S, D bits /
// 32) uint32 and (B, Hk, S, D / group); mask (B, Hq, M, S) bool if the sizes say so; all may be
// strided. Output y (B, Hq, M, Dv).
//
// The G M rows of the G = Hq / Hk query heads that share a key head are cut into blocks of ROWS. A
// unit is a block and one of the `stage` parts of its keys, which it reads a tile at a time: as
// floats (coded_floats.cpu.h), or as they are (coded_digits.cpu.h). With one part the unit writes
// y; with several it writes its sums to scratch memory, and mlx_kd_attention_quantized_merge, whose
// unit is a block, adds them:
//   scratch 0 (blocks, parts, ROWS, 2): the largest score and the sum of powers
//   scratch 1 (blocks, parts, ROWS, Dv): the sum over v
#ifndef KD_DTYPE
#define KD_DTYPE 0  // 0 float32, 1 float16, 2 bfloat16
#endif
#ifndef VEC
#define VEC 16  // bytes of a vector of floats
#endif
#ifndef BF16
#define BF16 0  // bfloat16 is rounded by integer arithmetic (0) or by AVX512_BF16 (1)
#endif
#ifndef DIGITS
#define DIGITS 0  // 1: codes are multiplied as they are, by AVX512_VNNI
#endif
#ifndef ROWS
#define ROWS 4  // of a block: 1, 2, 4; with DIGITS 4, 8
#endif
#ifndef TILE
#define TILE 64  // keys at a time: a multiple of 16
#endif
#ifndef PREFETCH
#define PREFETCH 0  // 1: a tile's values are fetched with its keys, the next keys with its values
#endif
#ifndef STREAM
#define STREAM 0
#endif

#ifndef KD_DIM_S
#define KD_DIM_S 0
#define KD_DIM_B 1
#define KD_DIM_Hq 2
#define KD_DIM_Hk 3
#define KD_DIM_M 4
#define KD_DIM_Dk 5
#define KD_DIM_Dv 6
#define KD_DIM_causal 7
#define KD_DIM_has_mask 10
#define KD_DIM_bits 8
#define KD_DIM_group_size 9
#define KD_SCALAR_scale 0
#endif

#define PIECES 1
#include "../coded_block.cpu.h"

constexpr int kMask = 7;

static Seen seen_by(const Block& block, long r) {
  const Place at = place_of(block, r);
  const long s = dim(block, KD_DIM_S);
  const long end = dim(block, KD_DIM_causal) ? s - dim(block, KD_DIM_M) + at.t + 1 : s;
  if (!dim(block, KD_DIM_has_mask)) return {0, end, nullptr};
  const long* strides = block.a->strides[kMask];
  return {0, end,
          (const unsigned char*)block.a->inputs[kMask] + block.b * strides[0] +
              at.head * strides[1] + at.t * strides[2]};
}

static bool has_limits(const Block& block, long) {
  return dim(block, KD_DIM_has_mask) || dim(block, KD_DIM_causal);
}

static float hidden_score() {  // a row that sees no key gives the mean of all
  return -0x1p126f;
}

#if KD_BYTES
#include "../coded_digits.cpu.h"
#else
#include "../coded_floats.cpu.h"
#endif

// Keys from j on; none where j is not before `to`.
static Tile tile_at(const Block& block, long j, long to) {
  const long count = to - j < TILE ? to - j : TILE;
  if (count <= 0) return {{}, 0, j, 0};
  return {{{block.k, block.v, j, count}}, 1, j, count};
}

template <int kBits>
static void attend(const kd_arguments* a, long unit) {
  const long parts = a->stage, index = unit / parts, part = unit - index * parts;
  Block block = open_block(a, index);
  open_keys(block, block.b);
  alignas(64) float own[ROWS * kWidest];
  Scratch out = {nullptr, own};
  if (parts > 1) out = scratch_of(a, unit);
  clear_sums(out.sums, block.v.width);
  Work work;
  Tiles<kBits> tiles;
  tiles.open(block);
  const long s = dim(block, KD_DIM_S), each = ((s + parts - 1) / parts + 15) / 16 * 16;
  const long from = part * each, to = from + each < s ? from + each : s;
  Tile tile, next = tile_at(block, from, to);
  for (long j = from; j < to; j += TILE) {
    tile = next, next = tile_at(block, j + TILE, to);
    tiles.add(work, block, tile, next, out.sums);
  }
  tiles.finish(block, out.sums);
  for (long r = 0; r < block.rows; ++r) {
    if (parts > 1)
      out.numbers[2 * r] = tiles.largest(r), out.numbers[2 * r + 1] = tiles.powers(r);
    else
      finish_row(block, r, tiles.powers(r), out.sums + r * block.v.width);
  }
}

extern "C" void mlx_kd_attention_quantized(const kd_arguments* a, long begin, long end) {
  for (long unit = begin; unit < end; ++unit) {
    if (a->dims[KD_DIM_bits] == 8)
      attend<8>(a, unit);
    else
      attend<4>(a, unit);
  }
}

extern "C" void mlx_kd_attention_quantized_merge(const kd_arguments* a, long begin, long end) {
  for (long index = begin; index < end; ++index) {
    const Block block = open_block(a, index);
    for (long r = 0; r < block.rows; ++r) merge_row(block, index, r);
  }
}
