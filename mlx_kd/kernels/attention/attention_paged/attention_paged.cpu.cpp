// attention_paged: y = softmax(scale q k^T) v for each head, with keys and values in pages.
//
// inputs q (B, Hq, M, Dk), key_pages (P, Hk, L, Dk), value_pages (P, Hk, L, Dv), table (B, W)
// int32, begins (B), ends (B) int32; output y (B, Hq, M, Dv); q may be strided. Key j of batch row
// b is row j % L of page table[b][j / L]. Query t sees keys from begins[b] up to ends[b] - M + t,
// but none in a page that is not there; one that sees none gives zeros.
//
// The G M rows of the G = Hq / Hk query heads that share a key head are cut into blocks of ROWS. A
// unit is a block and one of the `stage` parts of its keys. It takes keys of one page, TILE of them
// at a time, as attention does. With one part the unit writes y; with several it writes its sums to
// scratch memory, and mlx_kd_attention_paged_merge, whose unit is a block, adds them:
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
#define PREFETCH 0  // 1: a tile's values are fetched with its keys, the next keys with its values
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

// The keys from `next` to `to` that are read after those from j on: in the page that is open, or in
// the one after it. Their values are fetched while keys from j on are scored.
static Ahead keys_ahead(Block& block, long j, long next, long to) {
  const long length = dim(block, KD_DIM_L), entry = next / length;
  const long row = next < to ? page_row(block, entry) : -1;
  block.next_v = block.v;
  if (row < 0) return {nullptr, 0, 0, 0};
  const long at = row + next - entry * length;
  block.next_v = (const T*)block.a->inputs[2] + (at - j) * block.v_stride;
  const long in_page = (entry + 1) * length - next,
             left = to - next < in_page ? to - next : in_page;
  return {(const T*)block.a->inputs[1] + at * block.k_stride, left < TILE ? left : TILE,
          block.k_stride, dim(block, KD_DIM_Dk) * long(sizeof(T))};
}

static void finish_row(const Block& block, long r, float, float powers, Step* sums) {
  write_row(block, place_of(block, r), powers == 0.0f ? 0.0f : 1.0f / powers, sums);
}

static void attend(const kd_arguments* a, long unit) {
  const long parts = a->stage, index = unit / parts, part = unit - index * parts;
  Block block;
  open_block(block, a, index);
  const long vectors = (block.rows + kRows - 1) / kRows, steps = steps_of(dim(block, KD_DIM_Dv));
  const long chunks = (dim(block, KD_DIM_Dk) + kChunk - 1) / kChunk;
  Chunk* const q =
      (Chunk*)__builtin_alloca_with_align((unsigned long)(chunks * vectors) * sizeof(Chunk), 512);
  load_queries(block, q, vectors);
  Scratch out = {nullptr, nullptr};
  if (parts > 1)
    out = scratch_of(a, unit);
  else
    out.sums =
        (Step*)__builtin_alloca_with_align((unsigned long)(block.rows * steps) * sizeof(Step), 512);
  for (long i = 0; i < block.rows * steps; ++i) out.sums[i] = Step{};

  Sums state;
  for (long v = 0; v < vectors; ++v)
    state.largest[v] = all(-kInfinity), state.powers[v] = all(0.0f);
  alignas(64) Floats scores[kVectors * kQuads];
  const long length = dim(block, KD_DIM_L), keys = block.end - block.begin;
  const long each = ((keys > 0 ? keys : 0) + parts - 1) / parts;
  const long from = block.begin + part * each;
  const long to = from + each < block.end ? from + each : block.end;
  for (long j = from, next; j < to; j = next) {
    const long entry = j / length, page_end = (entry + 1) * length;
    next = page_end < to ? page_end : to;
    if (!open_page(block, entry)) continue;
    if (next - j > TILE) next = j + TILE;
    const long count = next - j;
    const Ahead ahead = keys_ahead(block, j, next, to);
    score_rows(block, q, vectors, j, count, scores);
    take_powers(state, scores, vectors, count);
    add_tile(block, scores, state, out.sums, j, count, ahead);
  }
  close_block(block, state, out, parts);
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
