// attention_paged: y = softmax(scale q k^T) v for each head, with keys and values in pages.
//
// inputs q (B, Hq, M, Dk), key_pages (P, Hk, L, Dk), value_pages (P, Hk, L, Dv), table (B, W)
// int32, begins (B), ends (B) int32; output y (B, Hq, M, Dv); q may be strided. Key j of batch row
// b is row j % L of page table[b][j / L]. Query t sees keys from begins[b] up to ends[b] - M + t,
// but none in a page that is not there; one that sees none gives zeros.
//
// The G M rows of the G = Hq / Hk query heads that share a key head are cut into blocks of ROWS. A
// unit is the same block of HEADS key heads and one of the `stage` parts of their keys. Its heads
// take turns at TILE keys of one page, as attention takes them: a page is one piece of memory,
// which is read from one end to the other. With one part the unit writes y; with several it writes
// its sums to scratch memory, and mlx_kd_attention_paged_merge, whose unit is a block, adds them:
//   scratch 0 (blocks, parts, ROWS, 2): the largest score and the sum of powers
//   scratch 1 (blocks, parts, ROWS, steps of Dv): the sum over v
#ifndef KD_DTYPE
#define KD_DTYPE 0  // 0 float32, 1 float16, 2 bfloat16
#endif
#ifndef VEC
#define VEC 16  // bytes of a vector of floats
#endif
#ifndef BF16
#define BF16 0  // bfloat16 is rounded by integer arithmetic (0) or by AVX512_BF16 (1)
#endif
#ifndef DOT
#define DOT 0  // 1: scores of bfloat16 by AVX512_BF16
#endif
#ifndef ROWS
#define ROWS 16  // of a block: a multiple of 8
#endif
#ifndef TILE
#define TILE 64  // keys at a time: a multiple of 4
#endif
#ifndef PREFETCH
#define PREFETCH 0  // 1: what is read next is fetched: values with keys, keys with values
#endif
#ifndef HEADS
#define HEADS 8  // key heads of a unit
#endif

#include "../../common/kd_arguments.h"
#include "../chunks.cpu.h"

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
#define KD_SCALAR_scale 0
#endif

constexpr int kTable = 3, kBegins = 4, kEnds = 5;
constexpr long kStack = 1 << 17;  // bytes

struct Block {
  const kd_arguments* a;
  long b, key_head, group, first, rows;  // group: query heads of a key head
  const T *k, *v;                        // of key 0, if all were in the page that is read
  const T* next_v;                       // likewise, for the page that is read after it
  long k_stride, v_stride;
  long begin, end;              // keys that some row sees
  long whole_begin, whole_end;  // keys that every row sees
  Ints low[kVectors], high[kVectors];
};

#include "../places.cpu.h"

// A call: inlined, gcc 12 keeps the sums of the loop around it in memory.
__attribute__((noinline)) static Floats limited(const Block& block, int vector, long j,
                                                Floats score) {
  Ints index = Ints{} + int(j);
  for (int i = 0; i < kLanes; ++i) index[i] += i % 4;
  const Ints seen = (index >= block.low[vector]) & (index < block.high[vector]);
  return seen ? score : all(-kInfinity);
}

KD_INLINE const T* values_ahead(const Block& block, long key) {
  return block.next_v + key * block.v_stride;
}

#include "../tiles.cpu.h"

static void set_limits(Block& block) {
  const long all_keys = dim(block, KD_DIM_W) * dim(block, KD_DIM_L), rows = dim(block, KD_DIM_M);
  const long begin = ((const int*)block.a->inputs[kBegins])[block.b];
  const long given = ((const int*)block.a->inputs[kEnds])[block.b];
  const long low = begin > 0 ? begin : 0, end = given < all_keys ? given : all_keys;
  const auto high = [&](long t) {
    const long after = given - rows + t + 1;
    return after < end ? after : end;
  };
  block.begin = low;
  block.end = high(place_of(block, block.rows - 1).t);
  block.whole_begin = low;
  block.whole_end = high(place_of(block, 0).t);
  int* const lows = (int*)block.low;
  int* const highs = (int*)block.high;
  for (long lane = 0; lane < kVectors * kLanes; ++lane) {
    const long r = lane / 4 < block.rows ? lane / 4 : block.rows - 1;
    lows[lane] = int(low), highs[lane] = int(high(place_of(block, r).t));
  }
}

static void open_block(Block& block, const kd_arguments* a, long index) {
  const long heads = a->dims[KD_DIM_Hk];
  block.a = a;
  block.group = a->dims[KD_DIM_Hq] / heads;
  const long all_rows = block.group * a->dims[KD_DIM_M], blocks = (all_rows + ROWS - 1) / ROWS;
  const long head = index / blocks;
  block.b = head / heads;
  block.key_head = head - block.b * heads;
  block.first = (index - head * blocks) * ROWS;
  block.rows = all_rows - block.first < ROWS ? all_rows - block.first : ROWS;
  block.k_stride = a->dims[KD_DIM_Dk], block.v_stride = a->dims[KD_DIM_Dv];
  block.k = block.v = block.next_v = nullptr;
  set_limits(block);
}

// Where a key head's rows of the page of an entry of the table begin, in rows; -1 where there is no
// such page.
static long page_row(const Block& block, long entry) {
  const kd_arguments* const a = block.a;
  if (entry >= a->dims[KD_DIM_W]) return -1;
  const long page = ((const int*)a->inputs[kTable])[block.b * a->dims[KD_DIM_W] + entry];
  if (page < 0 || page >= a->dims[KD_DIM_P]) return -1;
  return (page * a->dims[KD_DIM_Hk] + block.key_head) * a->dims[KD_DIM_L];
}

// Turns to the page of an entry; false where there is no such page.
static bool open_page(Block& block, long entry) {
  const long row = page_row(block, entry), first = entry * block.a->dims[KD_DIM_L];
  if (row < 0) return false;
  block.k = (const T*)block.a->inputs[1] + (row - first) * block.k_stride;
  block.v = (const T*)block.a->inputs[2] + (row - first) * block.v_stride;
  return true;
}

// Keys from `at` on, of one page.
struct Tile {
  long at, count;
};
KD_INLINE Tile tile_at(const Block& block, long at, long to) {
  const long length = dim(block, KD_DIM_L), page_end = (at / length + 1) * length;
  const long left = (page_end < to ? page_end : to) - at;
  return {at, left < TILE ? left : TILE};
}

// The keys of `block` in a tile, which are read after those of `now` from j on; the values next to
// them are fetched while those are scored.
static Ahead keys_ahead(Block& now, long j, const Block& block, const Tile& tile) {
  const long length = dim(block, KD_DIM_L), entry = tile.at / length;
  const long row = tile.count > 0 ? page_row(block, entry) : -1;
  now.next_v = now.v;
  if (row < 0) return {nullptr, 0, 0, 0};
  const long at = row + tile.at - entry * length;
  now.next_v = (const T*)block.a->inputs[2] + (at - j) * block.v_stride;
  return {(const T*)block.a->inputs[1] + at * block.k_stride, tile.count, block.k_stride,
          dim(block, KD_DIM_Dk) * long(sizeof(T))};
}

static void finish_row(const Block& block, long r, float, float powers, Step* sums) {
  write_row(block, place_of(block, r), powers == 0.0f ? 0.0f : 1.0f / powers, sums);
}

// What a unit knows of one of its key heads.
struct Head {
  Block block;
  Chunk* q;
  long vectors;
  Scratch out;
  Sums state;
};

static void open_head(Head& head, const kd_arguments* a, long index, long part, Chunk* q,
                      Step* sums) {
  const long parts = a->stage;
  Block& block = head.block;
  open_block(block, a, index);
  head.vectors = (block.rows + kRows - 1) / kRows;
  head.q = q;
  load_queries(block, q, head.vectors);
  head.out = {nullptr, sums};
  if (parts > 1) head.out = scratch_of(a, index * parts + part);
  const long steps = block.rows * steps_of(dim(block, KD_DIM_Dv));
  for (long i = 0; i < steps; ++i) head.out.sums[i] = Step{};
  for (long v = 0; v < head.vectors; ++v)
    head.state.largest[v] = all(-kInfinity), head.state.powers[v] = all(0.0f);
}

// Pages lie anywhere. A line of each 4096 bytes of the page after the one of key j is fetched:
// their places are looked up before they are read, and the processor's own fetching starts.
static void look_up_next_page(const Block& block, long j, long to) {
  const long length = dim(block, KD_DIM_L), next = j / length + 1;
  const long row = next * length < to ? page_row(block, next) : -1;
  if (row < 0) return;
  for (int port = 1; port < 3; ++port) {
    const long width = dim(block, port == 1 ? KD_DIM_Dk : KD_DIM_Dv) * long(sizeof(T));
    const char* const from = (const char*)block.a->inputs[port] + row * width;
    for (long at = 0; at < length * width; at += 4096) __builtin_prefetch(from + at, 0, 2);
  }
}

// A part of the keys of `count` heads from `first` on, for the block of query rows that comes
// `place`-th in each.
__attribute__((noinline)) static void attend_heads(const kd_arguments* a, long b, long first,
                                                   long count, long place, long part) {
  const long key_heads = a->dims[KD_DIM_Hk], parts = a->stage;
  const long rows = a->dims[KD_DIM_Hq] / key_heads * a->dims[KD_DIM_M];
  const long blocks = (rows + ROWS - 1) / ROWS;
  const long chunks = (a->dims[KD_DIM_Dk] + kChunk - 1) / kChunk * kVectors;
  const long steps = parts > 1 ? 0 : ROWS * steps_of(a->dims[KD_DIM_Dv]);
  Chunk* const q =
      (Chunk*)__builtin_alloca_with_align((unsigned long)(count * chunks) * sizeof(Chunk), 512);
  Step* const sums =
      (Step*)__builtin_alloca_with_align((unsigned long)(count * steps) * sizeof(Step), 512);
  Head heads[HEADS];
  open_head(heads[0], a, (b * key_heads + first) * blocks + place, part, q, sums);
  for (long h = 1; h < count; ++h)
    open_head(heads[h], a, (b * key_heads + first + h) * blocks + place, part, q + h * chunks,
              sums + h * steps);

  alignas(64) Floats scores[kVectors * kQuads];
  const Block& one = heads[0].block;  // all have the same keys
  const long length = dim(one, KD_DIM_L), keys = one.end - one.begin;
  const long each = ((keys > 0 ? keys : 0) + parts - 1) / parts;
  const long from = one.begin + part * each, to = from + each < one.end ? from + each : one.end;
  for (long j = from; j < to;) {
    const Tile tile = tile_at(one, j, to), next = tile_at(one, j + tile.count, to);
    for (long h = 0; h < count; ++h) {
      Head& head = heads[h];
      if (!open_page(head.block, j / length)) break;
      if (PREFETCH && (j == from || j % length == 0)) look_up_next_page(head.block, j, to);
      const Block& after = heads[h + 1 < count ? h + 1 : 0].block;
      const Ahead ahead = keys_ahead(head.block, j, after, h + 1 < count ? tile : next);
      score_rows(head.block, head.q, head.vectors, j, tile.count, scores);
      take_powers(head.state, scores, head.vectors, tile.count);
      add_tile(head.block, scores, head.state, head.out.sums, j, tile.count, ahead);
    }
    j += tile.count;
  }
  for (long h = 0; h < count; ++h) close_block(heads[h].block, heads[h].state, heads[h].out, parts);
}

static void attend(const kd_arguments* a, long unit) {
  const long key_heads = a->dims[KD_DIM_Hk], groups = (key_heads + HEADS - 1) / HEADS;
  const long rows = a->dims[KD_DIM_Hq] / key_heads * a->dims[KD_DIM_M];
  const long blocks = (rows + ROWS - 1) / ROWS, parts = a->stage;
  const long index = unit / parts, part = unit - index * parts;
  const long group = index / blocks, b = group / groups, first = (group - b * groups) * HEADS;
  const long end = key_heads - first < HEADS ? key_heads : first + HEADS;
  // As many heads at a time as small stacks have room for.
  const long bytes = (a->dims[KD_DIM_Dk] + a->dims[KD_DIM_Dv]) * ROWS * 4;
  const long fit = bytes * HEADS <= kStack ? HEADS : bytes < kStack ? kStack / bytes : 1;
  for (long head = first; head < end; head += fit)
    attend_heads(a, b, head, end - head < fit ? end - head : fit, index - group * blocks, part);
}

extern "C" void mlx_kd_attention_paged(const kd_arguments* a, long begin, long end) {
  for (long unit = begin; unit < end; ++unit) attend(a, unit);
}

extern "C" void mlx_kd_attention_paged_merge(const kd_arguments* a, long begin, long end) {
  for (long index = begin; index < end; ++index) {
    Block block;
    open_block(block, a, index);
    for (long r = 0; r < block.rows; ++r) merge_row(block, index, r);
  }
}
