// attention: y = softmax(scale q k^T) v for each head, with limits, masks, biases and sinks.
//
// inputs q (B, Hq, M, Dk), k (B, Hk, S, Dk), v (B, Hk, S, Dv), mask (B, Hq, M, S) bool, sinks (Hq),
// bias (B, Hq, M, S), the last three if the sizes say so; output y (B, Hq, M, Dv); all inputs but
// sinks may be strided.
//
// The G M rows of the G = Hq / Hk query heads that share a key head are cut into blocks of ROWS. A
// unit is a block and one of the `stage` parts of its keys. It takes TILE keys at a time: scores,
// then their powers, then their share of the sum over v, which is scaled whenever the largest score
// grows. With one part the unit writes y; with several it writes its sums to scratch memory, and
// mlx_kd_attention_merge, whose unit is a block, adds them:
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
#define DOT 0  // 1: scores of bfloat16 by AVX512_BF16; 2: blocks of many rows in AMX's registers
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

#include "block.cpu.h"

// GCC's and clang's names of AMX_BF16, which has AMX_TILE.
#if DOT == 2 && KD_DOT && (defined(__AMX_BF16__) || defined(__AMXBF16__))
#define KD_MATRICES 1
#include "matrices.cpu.h"
#elif DOT == 2
#error "DOT=2 takes AMX_BF16, vectors of 64 bytes and bfloat16"
#else
#define KD_MATRICES 0
#endif

// Writes row r of y: `sums` over the sum of powers, to which a sink adds one.
static void finish_row(const Block& block, long r, float largest, float powers, Step* sums) {
  const Place at = place_of(block, r);
  float shrink = 1;
  if (dim(block, KD_DIM_has_sinks)) {
    const float sink = element((const T*)block.a->inputs[4] + at.head) * kLog2E;
    const float most = sink > largest ? sink : largest;
    const float from = most == -kInfinity ? 0.0f : most;
    shrink = power_of(all(largest - from))[0];
    powers = powers * shrink + power_of(all(sink - from))[0];
  }
  write_row(block, at, shrink / powers, sums);
}

// Keys [from, to) of all rows; `sums` is written.
static void attend_by_rows(const Block& block, long from, long to, Sums& state, Step* sums) {
  const long vectors = (block.rows + kRows - 1) / kRows, steps = steps_of(dim(block, KD_DIM_Dv));
  const long chunks = (dim(block, KD_DIM_Dk) + kChunk - 1) / kChunk;
  Chunk* const q =
      (Chunk*)__builtin_alloca_with_align((unsigned long)(chunks * vectors) * sizeof(Chunk), 512);
  load_queries(block, q, vectors);
  for (long i = 0; i < block.rows * steps; ++i) sums[i] = Step{};
  for (long v = 0; v < vectors; ++v)
    state.largest[v] = all(-kInfinity), state.powers[v] = all(0.0f);
  alignas(64) Floats scores[kVectors * kQuads];
  for (long j = from; j < to; j += TILE) {
    const long count = to - j < TILE ? to - j : TILE;
    score_rows(block, q, vectors, j, count, scores);
    take_powers(state, scores, vectors, count);
    const long left = to - j - TILE;
    const Ahead ahead = {block.k + (j + TILE) * block.k_stride, left < TILE ? left : TILE,
                         block.k_stride, dim(block, KD_DIM_Dk) * long(sizeof(T))};
    add_tile(block, scores, state, sums, j, count, ahead);
  }
}

static void attend(const kd_arguments* a, long unit) {
  const long parts = a->stage, index = unit / parts, part = unit - index * parts;
  Block block;
  open_block(block, a, index);
  const long steps = steps_of(dim(block, KD_DIM_Dv));
  Scratch out = {nullptr, nullptr};
  if (parts > 1)
    out = scratch_of(a, unit);
  else
    out.sums =
        (Step*)__builtin_alloca_with_align((unsigned long)(block.rows * steps) * sizeof(Step), 512);
  Sums state;
  const long each = ((block.end - block.begin + parts - 1) / parts + 3) / 4 * 4;
  const long from = block.begin + part * each;
  const long to = from + each < block.end ? from + each : block.end;
#if KD_MATRICES
  if (takes_matrices(block, to - from))
    attend_in_matrices(block, from, to, state, out.sums);
  else
#endif
    attend_by_rows(block, from, to, state, out.sums);
  close_block(block, state, out, parts);
}

extern "C" void mlx_kd_attention(const kd_arguments* a, long begin, long end) {
  for (long unit = begin; unit < end; ++unit) attend(a, unit);
}

extern "C" void mlx_kd_attention_merge(const kd_arguments* a, long begin, long end) {
  for (long index = begin; index < end; ++index) {
    Block block;
    open_block(block, a, index);
    for (long r = 0; r < block.rows; ++r) merge_row(block, index, r);
  }
}
