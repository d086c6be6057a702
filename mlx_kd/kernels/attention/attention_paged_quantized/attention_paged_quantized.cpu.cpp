// attention_paged_quantized: y = softmax(scale q k^T) v for each head, with keys and values as
// codes in pages.
//
// inputs q (B, Hq, M, Dk); codes, scales and biases of keys, then of values, (P, Hk, L, D bits /
// 32) uint32 and (P, Hk, L, D / group); table (B, W) int32, begins (B), ends (B) int32; output y
// (B, Hq, M, Dv); q may be strided. Key j of batch row b is row j % L of page table[b][j / L].
// Query t sees keys from begins[b] up to ends[b] - M + t, but none in a page that is not there; one
// that sees none gives zeros.
//
// Blocks, parts and scratch memory are those of attention_quantized; a tile is of one page.
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

#ifndef KD_DIM_W
#define KD_DIM_W 0
#define KD_DIM_P 1
#define KD_DIM_L 2
#define KD_DIM_B 3
#define KD_DIM_Hq 4
#define KD_DIM_Hk 5
#define KD_DIM_M 6
#define KD_DIM_Dk 7
#define KD_DIM_Dv 8
#define KD_DIM_bits 9
#define KD_DIM_group_size 10
#define KD_SCALAR_scale 0
#endif

#include "../coded_block.cpu.h"

constexpr int kTable = 7, kBegins = 8, kEnds = 9;

static long number(const Block& block, int port) {
  return ((const int*)block.a->inputs[port])[block.b];
}

// The end of the keys that row `r` sees.
static long end_of(const Block& block, long r) {
  const long all_keys = dim(block, KD_DIM_W) * dim(block, KD_DIM_L), given = number(block, kEnds);
  const long after = given - dim(block, KD_DIM_M) + place_of(block, r).t + 1;
  return after < all_keys ? after : all_keys;
}

// Keys before the first are not read.
static Seen seen_by(const Block& block, long r) {
  return {0, end_of(block, r), nullptr};
}

static bool has_limits(const Block& block, long end) {
  return end > end_of(block, 0);
}

static float hidden_score() {
  return -kInfinity;
}

#if DIGITS && VEC == 64 && defined(__AVX512VNNI__) && defined(__AVX512VBMI__)
#include "../coded_digits.cpu.h"
#else
#include "../coded_floats.cpu.h"
#endif

// Turns to the page of an entry of the table; false where there is no such page.
static bool open_page(Block& block, long entry) {
  const kd_arguments* const a = block.a;
  if (entry >= a->dims[KD_DIM_W]) return false;
  const long page = ((const int*)a->inputs[kTable])[block.b * a->dims[KD_DIM_W] + entry];
  if (page < 0 || page >= a->dims[KD_DIM_P]) return false;
  open_keys(block, page);
  block.first_key = entry * a->dims[KD_DIM_L];
  return true;
}

// Keys [from, to) of the page that is open; those of `next` are read after them.
template <int kBits>
static void add_page(Tiles<kBits>& tiles, const Block& block, long from, long to, const Block* next,
                     float* sums) {
  for (long j = from; j < to; j += TILE) {
    const long count = to - j < TILE ? to - j : TILE;
    if (PREFETCH && next && j + TILE >= to)
      fetch_rows(next->k, 0, dim(block, KD_DIM_L) < TILE ? dim(block, KD_DIM_L) : TILE);
    tiles.add(block, j - block.first_key, count, to - j - count, sums);
  }
}

template <int kBits>
static void attend(const kd_arguments* a, long unit) {
  const long parts = a->stage, index = unit / parts, part = unit - index * parts;
  const long length = a->dims[KD_DIM_L];
  Block block = open_block(a, index);
  open_keys(block, 0);
  alignas(64) float own[ROWS * kWidest];
  Scratch out = {nullptr, own};
  if (parts > 1) out = scratch_of(a, unit);
  for (long i = 0; i < ROWS * block.v.width; ++i) out.sums[i] = 0;
  Tiles<kBits> tiles;
  tiles.open(block);
  const long given = number(block, kBegins), begin = given > 0 ? given : 0;
  const long end = end_of(block, block.rows - 1), keys = end > begin ? end - begin : 0;
  const long each = (keys + parts - 1) / parts, from = begin + part * each;
  const long to = from + each < end ? from + each : end;
  for (long j = from; j < to;) {
    const long entry = j / length, page_end = (entry + 1) * length;
    const long stop = page_end < to ? page_end : to;
    Block next = block;
    const bool more = PREFETCH && stop < to && open_page(next, entry + 1);
    if (open_page(block, entry)) add_page(tiles, block, j, stop, more ? &next : nullptr, out.sums);
    j = stop;
  }
  tiles.finish(block, out.sums);
  for (long r = 0; r < block.rows; ++r) {
    if (parts > 1)
      out.numbers[2 * r] = tiles.largest(r), out.numbers[2 * r + 1] = tiles.powers(r);
    else
      finish_row(block, r, tiles.powers(r), out.sums + r * block.v.width);
  }
}

extern "C" void mlx_kd_attention_paged_quantized(const kd_arguments* a, long begin, long end) {
  for (long unit = begin; unit < end; ++unit) {
    if (a->dims[KD_DIM_bits] == 8)
      attend<8>(a, unit);
    else
      attend<4>(a, unit);
  }
}

extern "C" void mlx_kd_attention_paged_quantized_merge(const kd_arguments* a, long begin,
                                                       long end) {
  for (long index = begin; index < end; ++index) {
    const Block block = open_block(a, index);
    for (long r = 0; r < block.rows; ++r) merge_row(block, index, r);
  }
}
