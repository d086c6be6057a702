// attention_paged_quantized: y = softmax(scale q k^T) v for each head, with keys and values as
// codes in pages.
//
// inputs q (B, Hq, M, Dk); codes, scales and biases of keys, then of values, (P, Hk, L, D bits /
// 32) uint32 and (P, Hk, L, D / group); table (B, W) int32, begins (B), ends (B) int32; output y
// (B, Hq, M, Dv); q may be strided. Key j of batch row b is row j % L of page table[b][j / L].
// Query t sees keys from begins[b] up to ends[b] - M + t, but none in a page that is not there; one
// that sees none gives zeros.
//
// Blocks, parts and scratch memory are those of attention_quantized. A unit is the same block of
// HEADS key heads, which take turns at a tile: a page is one piece of memory, which is read from
// one end to the other. A tile is of one page, or of several where codes are multiplied as bytes.
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
#ifndef HEADS
#define HEADS 8  // key heads of a unit
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

#define PIECES (TILE / 4)
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

#if KD_BYTES
#include "../coded_digits.cpu.h"
#else
#include "../coded_floats.cpu.h"
#endif

constexpr long kMostPieces = KD_BYTES ? PIECES : 1;

// The page of an entry of the table, or -1.
static long page_of(const Block& block, long entry) {
  const kd_arguments* const a = block.a;
  if (entry >= a->dims[KD_DIM_W]) return -1;
  const long page = ((const int*)a->inputs[kTable])[block.b * a->dims[KD_DIM_W] + entry];
  return page < a->dims[KD_DIM_P] ? page : -1;
}

// Keys of a head from j on, at most up to `to`: of one page after the other, as long as they are
// there. Where the first is not, the tile has no keys and ends with its page.
static void find_tile(const Block& block, long j, long to, Tile& tile) {
  const long length = dim(block, KD_DIM_L);
  tile.number = tile.count = 0, tile.first_key = j;
  while (j < to && tile.count < TILE && tile.number < kMostPieces && tile.count % 4 == 0) {
    const long entry = j / length, first = j - entry * length, page = page_of(block, entry);
    if (page < 0) break;
    const long left = to - j < TILE - tile.count ? to - j : TILE - tile.count;
    Piece& piece = tile.pieces[tile.number++];
    piece = {keys_of(block, page), values_of(block, page), first, 0};
    piece.count = length - first < left ? length - first : left;
    tile.count += piece.count, j += piece.count;
  }
}

// What a unit knows of one of its key heads.
template <int kBits>
struct Head {
  Block block;
  Tiles<kBits> tiles;
  Scratch out;
};

template <int kBits>
static void open_head(Head<kBits>& head, const kd_arguments* a, long index, long part, float* own) {
  head.block = open_block(a, index);
  open_keys(head.block, 0);
  head.tiles.open(head.block);
  head.out = {nullptr, own};
  if (a->stage > 1) head.out = scratch_of(a, index * a->stage + part);
  clear_sums(head.out.sums, a->dims[KD_DIM_Dv]);
}

template <int kBits>
static void close_head(Head<kBits>& head, long parts) {
  const Tiles<kBits>& tiles = head.tiles;
  head.tiles.finish(head.block, head.out.sums);
  for (long r = 0; r < head.block.rows; ++r) {
    if (parts > 1)
      head.out.numbers[2 * r] = tiles.largest(r), head.out.numbers[2 * r + 1] = tiles.powers(r);
    else
      finish_row(head.block, r, tiles.powers(r), head.out.sums + r * dim(head.block, KD_DIM_Dv));
  }
}

// A part of the keys of `count` heads, for blocks `step` apart from `index` on.
template <int kBits>
static void attend_heads(const kd_arguments* a, long index, long step, long count, long part) {
  const long parts = a->stage, sums = parts > 1 ? 0 : ROWS * a->dims[KD_DIM_Dv];
  float* const own =
      (float*)__builtin_alloca_with_align((unsigned long)(count * sums) * sizeof(float), 512);
  Work work;
  Head<kBits> heads[HEADS];
  for (long h = 0; h < count; ++h) open_head(heads[h], a, index + h * step, part, own + h * sums);
  const Block& one = heads[0].block;  // all have the same keys
  const long given = number(one, kBegins), begin = given > 0 ? given : 0;
  const long end = end_of(one, one.rows - 1), keys = end > begin ? end - begin : 0;
  const long each = (keys + parts - 1) / parts, from = begin + part * each;
  const long to = from + each < end ? from + each : end;
  Tile tiles[2];
  int now = 0;
  find_tile(one, from, to, tiles[now]);
  for (long j = from; j < to;) {
    if (tiles[now].count == 0) {
      j = (j / dim(one, KD_DIM_L) + 1) * dim(one, KD_DIM_L);
      find_tile(one, j, to, tiles[now]);
      continue;
    }
    const long after = j + tiles[now].count;
    for (long h = 0; h < count; ++h, now = 1 - now) {
      const bool last = h + 1 == count;
      find_tile(heads[last ? 0 : h + 1].block, last ? after : j, to, tiles[1 - now]);
      heads[h].tiles.add(work, heads[h].block, tiles[now], tiles[1 - now], heads[h].out.sums);
    }
    j = after;
  }
  for (long h = 0; h < count; ++h) close_head(heads[h], parts);
}

template <int kBits>
static void attend(const kd_arguments* a, long unit) {
  const long key_heads = a->dims[KD_DIM_Hk], groups = (key_heads + HEADS - 1) / HEADS;
  const long rows = a->dims[KD_DIM_Hq] / key_heads * a->dims[KD_DIM_M];
  const long blocks = (rows + ROWS - 1) / ROWS, parts = a->stage;
  const long index = unit / parts, part = unit - index * parts;
  const long group = index / blocks, b = group / groups, first = (group - b * groups) * HEADS;
  const long count = key_heads - first < HEADS ? key_heads - first : HEADS;
  attend_heads<kBits>(a, (b * key_heads + first) * blocks + index - group * blocks, blocks, count,
                      part);
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
