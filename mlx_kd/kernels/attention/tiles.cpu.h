// Scores of a tile of keys, their powers, and their share of the sums over values. It is included
// below what an operator defines: Block, a block of query rows, with place_of and dim; limited,
// which gives masked scores; finish_row, which writes a row of y.
//
// Scores are in powers of two. The score of a masked key is kMasked: it has no weight, but the keys
// of a row in which all are masked have equal weights.
#pragma once
// Steps of Dv; the last one may overlap the one before it.
KD_INLINE long steps_of(long width) {
  return (width + kStep - 1) / kStep;
}
KD_INLINE long step_begin(long step, long width) {
  const long at = step * kStep;
  return at + kStep <= width || width < kStep ? at : width - kStep;
}

KD_INLINE const T* query_of(const Block& block, long r) {
  const Place at = place_of(block, r);
  const long* const strides = block.a->strides[0];
  return (const T*)block.a->inputs[0] + block.b * strides[0] + at.head * strides[1] +
         at.t * strides[2];
}

// q in chunks (chunk, vector); rows beyond the last are zero.
static void load_queries(const Block& block, Chunk* q, long vectors) {
  const long width = dim(block, KD_DIM_Dk), chunks = (width + kChunk - 1) / kChunk;
  if (vectors * kRows > block.rows)
    for (long c = 0; c < chunks; ++c) q[c * vectors + vectors - 1] = Chunk{};
  for (long r = 0; r < block.rows; ++r) {
    const T* const from = query_of(block, r);
    for (long c = 0; c < chunks; ++c)
      place(q + c * vectors + r / kRows, int(r % kRows), from + c * kChunk, width - c * kChunk);
  }
}

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
      if (PREFETCH && vector == 0) fetch(values_ahead(block, key), fetched);
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

// Vectors of rows at once: four of each, one of each row and one of a key fit the registers.
constexpr int kMostVectors = VEC == 64 && kHalves == 1 ? 6 : 4;

// The last five or six together: one alone waits for its own sums.
static void score_rows(const Block& block, const Chunk* q, long vectors, long begin, long count,
                       Floats* scores) {
  long vector = 0;
  for (; vector + 4 <= vectors; vector += 4) {
    if constexpr (kVectors > 4 && kMostVectors == 6) {
      if (vectors - vector == 5)
        return score_tile<5>(block, q, vectors, vector, begin, count, scores);
      if (vectors - vector == 6)
        return score_tile<6>(block, q, vectors, vector, begin, count, scores);
    }
    score_tile<4>(block, q, vectors, vector, begin, count, scores);
  }
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

KD_INLINE void scale_step(Step& step, float by) {
  KD_UNROLL
  for (int p = 0; p < kParts; ++p) step.part[p] *= by;
}

// --- parts ---

struct Scratch {
  float* numbers;
  Step* sums;
};
KD_INLINE Scratch scratch_of(const kd_arguments* a, long unit) {
  return {(float*)a->scratch[0] + unit * ROWS * 2,
          (Step*)a->scratch[1] + unit * ROWS * steps_of(a->dims[KD_DIM_Dv])};
}

static void finish_row(const Block& block, long r, float largest, float powers, Step* sums);

// `sums` times `by` to the row of y.
KD_INLINE void write_row(const Block& block, const Place& at, float by, Step* sums) {
  const long width = dim(block, KD_DIM_Dv);
  T* y = (T*)block.a->outputs[0] +
         ((block.b * dim(block, KD_DIM_Hq) + at.head) * dim(block, KD_DIM_M) + at.t) * width;
  for (long i = 0; i < steps_of(width); ++i) {
    scale_step(sums[i], by);
    if (width < kStep)
      store_some(y, sums[i], width);
    else
      store(y + step_begin(i, width), sums[i]);
  }
}

// One of several parts leaves its numbers in scratch memory; a block in one part is finished.
KD_INLINE void close_block(const Block& block, const Sums& state, const Scratch& out, long parts) {
  const long steps = steps_of(dim(block, KD_DIM_Dv));
  for (long r = 0; r < block.rows; ++r) {
    const float largest = state.largest[r / kRows][r % kRows * 4];
    const float powers = sum_of_rows(state.powers[r / kRows])[r % kRows * 4];
    if (parts > 1)
      out.numbers[2 * r] = largest, out.numbers[2 * r + 1] = powers;
    else
      finish_row(block, r, largest, powers, out.sums + r * steps);
  }
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
