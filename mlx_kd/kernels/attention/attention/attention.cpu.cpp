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
//
// Scores are in powers of two. The score of a masked key is kMasked: it has no weight, but the keys
// of a row in which all are masked have equal weights.
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

#include "block.cpu.h"

// --- scores ---

// Of V vectors of rows and the four keys at `k`.
template <int V>
KD_INLINE void score_four(const Chunk* q, long vectors, const T* const (&k)[4], long width,
                          Floats (&scores)[V]) {
  Floats parts[4][V] = {};
  long at = 0;
  for (; at + kChunk <= width; at += kChunk, q += vectors) {
    Chunk rows[V];
    KD_UNROLL
    for (int v = 0; v < V; ++v) rows[v] = q[v];
    KD_UNROLL
    for (int j = 0; j < 4; ++j) {
      const Chunk key = load_chunk(k[j] + at);
      KD_UNROLL
      for (int v = 0; v < V; ++v) add_products(parts[j][v], rows[v], key);
    }
  }
  if (at < width) {
    KD_UNROLL
    for (int j = 0; j < 4; ++j) {
      const Chunk key = load_last_chunk(k[j] + at, width - at);
      KD_UNROLL
      for (int v = 0; v < V; ++v) add_products(parts[j][v], q[v], key);
    }
  }
  KD_UNROLL
  for (int v = 0; v < V; ++v)
    scores[v] = sum_quads(parts[0][v], parts[1][v], parts[2][v], parts[3][v]);
}

// Four elements of a mask or bias for each row of a vector, from key j on.
template <class Element>
KD_INLINE void gather(const Block& block, int port, int vector, long j, Element (&to)[kLanes]) {
  const long* strides = block.a->strides[port];
  const long left = dim(block, KD_DIM_S) - j;
  for (int i = 0; i < kRows; ++i) {
    const long r = vector * kRows + i;
    const Place at = place_of(block, r < block.rows ? r : block.rows - 1);
    const Element* from = (const Element*)block.a->inputs[port] + block.b * strides[0] +
                          at.head * strides[1] + at.t * strides[2] + j;
    if (left >= 4)
      __builtin_memcpy(to + 4 * i, from, 4 * sizeof(Element));
    else
      for (long e = 0; e < 4; ++e) to[4 * i + e] = e < left ? from[e] : Element(0);
  }
}

static Floats limited(const Block& block, int vector, long j, Floats score) {
  if (dim(block, KD_DIM_has_bias)) {
    T bias[kLanes];
    gather(block, 5, vector, j, bias);
    typedef T Elements __attribute__((vector_size(kLanes * sizeof(T))));
    Elements elements;
    __builtin_memcpy(&elements, bias, sizeof elements);
#if KD_DTYPE == 2
    score += (Floats)(__builtin_convertvector(elements, Uints) << 16) * kLog2E;
#else
    score += widen(elements).part[0] * kLog2E;
#endif
  }
  Ints index = Ints{} + int(j);
  for (int i = 0; i < kLanes; ++i) index[i] += i % 4;
  Ints seen = (index >= block.low[vector]) & (index < block.high[vector]);
  if (dim(block, KD_DIM_has_mask)) {
    typedef unsigned char Byte;
    typedef Byte Bytes __attribute__((vector_size(kLanes)));
    Byte mask[kLanes];
    gather(block, 3, vector, j, mask);
    Bytes bytes;
    __builtin_memcpy(&bytes, mask, sizeof bytes);
    seen &= __builtin_convertvector(bytes, Ints) != 0;
  }
  return seen ? score : all(kMasked);
}

// Scores (vector, quad) of `count` keys from `begin` on; those beyond the last key are -inf.
template <int V>
static void score_tile(const Block& block, const Chunk* q, long vectors, long vector, long begin,
                       long count, Floats* scores) {
  const long width = dim(block, KD_DIM_Dk);
  const float scale = float(block.a->scalars[KD_SCALAR_scale]) * kLog2E;
  const bool whole = begin >= block.whole_begin && begin + count <= block.whole_end;
  const long fetched = dim(block, KD_DIM_Dv) * long(sizeof(T));
  for (long j = 0; j < count; j += 4) {
    const T* k[4];
    for (int i = 0; i < 4; ++i) {
      const long key = begin + (j + i < count ? j + i : count - 1);
      k[i] = block.k + key * block.k_stride;
      if (PREFETCH && vector == 0) fetch(block.v + key * block.v_stride, fetched);
    }
    Floats made[V];
    score_four<V>(q + vector, vectors, k, width, made);
    KD_UNROLL
    for (int v = 0; v < V; ++v) {
      Floats score = made[v] * scale;
      if (!whole) score = limited(block, int(vector) + v, begin + j, score);
      if (j + 4 > count)
        for (int i = 0; i < kLanes; ++i)
          if (j + i % 4 >= count) score[i] = -kInfinity;
      scores[(vector + v) * kQuads + j / 4] = score;
    }
  }
}

static void score_rows(const Block& block, const Chunk* q, long vectors, long begin, long count,
                       Floats* scores) {
  long vector = 0;
  for (; vector + 4 <= vectors; vector += 4)
    score_tile<4>(block, q, vectors, vector, begin, count, scores);
  for (; vector + 2 <= vectors; vector += 2)
    score_tile<2>(block, q, vectors, vector, begin, count, scores);
  if (vector < vectors) score_tile<1>(block, q, vectors, vector, begin, count, scores);
}

// --- sums ---

// What a part of the keys comes to. `largest` and `powers` have four lanes a row: of `powers` all
// four add up.
struct Sums {
  Floats largest[kVectors], powers[kVectors];
  float shrink[ROWS];  // what the sums so far are multiplied by
};

// Scores become their powers, relative to the largest one so far.
static void take_powers(Sums& sums, Floats* scores, long vectors, long count) {
  for (long v = 0; v < vectors; ++v, scores += kQuads) {
    Floats most = sums.largest[v];
    for (long i = 0; i < (count + 3) / 4; ++i) most = larger(scores[i], most);
    most = largest_of_rows(most);
    const Floats from = most == all(-kInfinity) ? all(0.0f) : most;
    const Floats shrink = power_of(sums.largest[v] - from);
    Floats sum = sums.powers[v] * shrink;
    for (long i = 0; i < (count + 3) / 4; ++i) {
      scores[i] = power_of(scores[i] - from);
      sum += scores[i];
    }
    sums.largest[v] = most;
    sums.powers[v] = sum;
    for (int i = 0; i < kRows; ++i) sums.shrink[v * kRows + i] = shrink[4 * i];
  }
}

constexpr int kWide = kParts == 2 ? 1 : 2;  // steps of Dv at once

// Keys of the next tile, fetched one by one while values are added.
struct Ahead {
  const T* from;
  long count, stride, bytes;
};

// Adds powers times v to R rows of `sums` (row, step), for C steps of Dv.
template <int R, int C>
KD_INLINE void add_values(const Block& block, const float* powers, const float* shrink, Step* sums,
                          long steps, long step, long begin, long count, const Ahead& ahead) {
  const long width = dim(block, KD_DIM_Dv);
  Step made[R][C];
  KD_UNROLL
  for (int r = 0; r < R; ++r) {
    KD_UNROLL
    for (int c = 0; c < C; ++c) {
      made[r][c] = sums[r * steps + c];
      KD_UNROLL
      for (int p = 0; p < kParts; ++p) made[r][c].part[p] *= shrink[r];
    }
  }
  const T* from[C];
  for (int c = 0; c < C; ++c)
    from[c] = block.v + begin * block.v_stride + step_begin(step + c, width);
  for (long j = 0; j < count; ++j) {
    const float* power = powers + j / 4 * kLanes + j % 4;
    if (PREFETCH && j < ahead.count) fetch(ahead.from + j * ahead.stride, ahead.bytes);
    KD_UNROLL
    for (int c = 0; c < C; ++c) {
      const Step value = width < kStep ? load_some(from[c], width) : load(from[c]);
      from[c] += block.v_stride;
      KD_UNROLL
      for (int r = 0; r < R; ++r) {
        const float by = power[r / kRows * (kQuads * kLanes) + r % kRows * 4];
        KD_UNROLL
        for (int p = 0; p < kParts; ++p) made[r][c].part[p] += by * value.part[p];
      }
    }
  }
  KD_UNROLL
  for (int r = 0; r < R; ++r) {
    KD_UNROLL
    for (int c = 0; c < C; ++c) sums[r * steps + c] = made[r][c];
  }
}

template <int R>
static void add_rows(const Block& block, const float* powers, const float* shrink, Step* sums,
                     long begin, long count, Ahead ahead) {
  const long steps = steps_of(dim(block, KD_DIM_Dv));
  long step = 0;
  for (; step + kWide <= steps; step += kWide, ahead.count = 0)
    add_values<R, kWide>(block, powers, shrink, sums + step, steps, step, begin, count, ahead);
  if (step < steps)
    add_values<R, 1>(block, powers, shrink, sums + step, steps, step, begin, count, ahead);
}

static void add_tile(const Block& block, const Floats* scores, const Sums& state, Step* sums,
                     long begin, long count, Ahead ahead) {
  const long steps = steps_of(dim(block, KD_DIM_Dv));
  const auto powers = [&](long r) {
    return (const float*)(scores + r / kRows * kQuads) + r % kRows * 4;
  };
  long r = 0;
  for (; r + 8 <= block.rows; r += 8, ahead.count = 0)
    add_rows<8>(block, powers(r), state.shrink + r, sums + r * steps, begin, count, ahead);
  if (r + 4 <= block.rows) {
    add_rows<4>(block, powers(r), state.shrink + r, sums + r * steps, begin, count, ahead);
    r += 4, ahead.count = 0;
  }
  for (; r < block.rows; ++r, ahead.count = 0)
    add_rows<1>(block, powers(r), state.shrink + r, sums + r * steps, begin, count, ahead);
}

// --- results ---

KD_INLINE void scale_step(Step& step, float by) {
  KD_UNROLL
  for (int p = 0; p < kParts; ++p) step.part[p] *= by;
}

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
  const long width = dim(block, KD_DIM_Dv);
  T* y = (T*)block.a->outputs[0] +
         ((block.b * dim(block, KD_DIM_Hq) + at.head) * dim(block, KD_DIM_M) + at.t) * width;
  for (long i = 0; i < steps_of(width); ++i) {
    scale_step(sums[i], shrink / powers);
    if (width < kStep)
      store_some(y, sums[i], width);
    else
      store(y + step_begin(i, width), sums[i]);
  }
}

struct Scratch {
  float* numbers;
  Step* sums;
};
KD_INLINE Scratch scratch_of(const kd_arguments* a, long unit) {
  return {(float*)a->scratch[0] + unit * ROWS * 2,
          (Step*)a->scratch[1] + unit * ROWS * steps_of(a->dims[KD_DIM_Dv])};
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
  const long each = ((block.end - block.begin + parts - 1) / parts + 3) / 4 * 4;
  const long from = block.begin + part * each;
  const long to = from + each < block.end ? from + each : block.end;
  for (long j = from; j < to; j += TILE) {
    const long count = to - j < TILE ? to - j : TILE;
    score_rows(block, q, vectors, j, count, scores);
    take_powers(state, scores, vectors, count);
    const long left = to - j - TILE;
    const Ahead ahead = {block.k + (j + TILE) * block.k_stride, left < TILE ? left : TILE,
                         block.k_stride, dim(block, KD_DIM_Dk) * long(sizeof(T))};
    add_tile(block, scores, state, out.sums, j, count, ahead);
  }
  for (long r = 0; r < block.rows; ++r) {
    const float largest = state.largest[r / kRows][r % kRows * 4];
    const float powers = sum_of_rows(state.powers[r / kRows])[r % kRows * 4];
    if (parts > 1)
      out.numbers[2 * r] = largest, out.numbers[2 * r + 1] = powers;
    else
      finish_row(block, r, largest, powers, out.sums + r * steps);
  }
}

extern "C" void mlx_kd_attention(const kd_arguments* a, long begin, long end) {
  for (long unit = begin; unit < end; ++unit) attend(a, unit);
}

static void merge_row(const Block& block, long index, long r) {
  const long parts = block.a->stage, steps = steps_of(dim(block, KD_DIM_Dv));
  float most = -kInfinity, powers = 0;
  for (long p = 0; p < parts; ++p) {
    const float largest = scratch_of(block.a, index * parts + p).numbers[2 * r];
    most = largest > most ? largest : most;
  }
  Step* const sums = scratch_of(block.a, index * parts).sums + r * steps;
  for (long p = 0; p < parts; ++p) {
    const Scratch part = scratch_of(block.a, index * parts + p);
    const float largest = part.numbers[2 * r];
    const float weight = power_of(all(largest - (most == -kInfinity ? 0.0f : most)))[0];
    powers += weight * part.numbers[2 * r + 1];
    for (long i = 0; i < steps; ++i) {
      Step& step = part.sums[r * steps + i];
      for (int half = 0; half < kParts; ++half)
        sums[i].part[half] = step.part[half] * weight + (p > 0 ? sums[i].part[half] : Floats{});
    }
  }
  finish_row(block, r, most, powers, sums);
}

extern "C" void mlx_kd_attention_merge(const kd_arguments* a, long begin, long end) {
  for (long index = begin; index < end; ++index) {
    Block block;
    open_block(block, a, index);
    for (long r = 0; r < block.rows; ++r) merge_row(block, index, r);
  }
}
