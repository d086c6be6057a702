// Keys and values a tile at a time, in float32: an element is scale code + bias, made in a register
// and used for all rows of the block. Scores are sums over vectors of elements: as many of them at
// once as a vector has lanes, so that folding them fills one vector.
#pragma once
#include "coded_block.cpu.h"

constexpr int kRowVectors = TILE / kLanes;

// Rows of q as floats, times scale and log2(e), (ROWS, Dk); rows beyond the last repeat it.
static void load_queries(const Block& block, float* q) {
  const long width = dim(block, KD_DIM_Dk);
  const long* strides = block.a->strides[0];
  const float scale = float(block.a->scalars[KD_SCALAR_scale]) * kLog2E;
  for (long r = 0; r < ROWS; ++r) {
    const Place at = place_of(block, r < block.rows ? r : block.rows - 1);
    const T* from = (const T*)block.a->inputs[0] + block.b * strides[0] + at.head * strides[1] +
                    at.t * strides[2];
    for (long i = 0; i < width; ++i) q[r * width + i] = element(from[i]) * scale;
  }
}

// Scores of keys [begin, begin + count), (ROWS, TILE), for kLanes / ROWS keys at once.
template <int kBits>
static void score_tile(const Block& block, const float* q, const float* scales, long begin,
                       long count, float* scores) {
  constexpr int kKeys = kLanes / ROWS;
  const Coded& k = block.k;
  for (long j = 0; j < count; j += kKeys) {
    Floats sums[kLanes] = {};
    const unsigned char* rows[kKeys];
    const float* numbers[kKeys];
    for (int i = 0; i < kKeys; ++i) {
      const long at = j + i < count ? j + i : count - 1;
      rows[i] = k.row(begin + at);
      numbers[i] = scales + at * k.groups * 2;
    }
    for (long g = 0; g < k.groups; ++g) {
      Floats scale[kKeys], bias[kKeys];
      KD_UNROLL
      for (int i = 0; i < kKeys; ++i)
        scale[i] = all(numbers[i][2 * g]), bias[i] = all(numbers[i][2 * g + 1]);
      for (long at = g * k.group; at < (g + 1) * k.group; at += kLanes) {
        Floats rows_of_q[ROWS];
        KD_UNROLL
        for (int r = 0; r < ROWS; ++r) rows_of_q[r] = vector_at(q + r * k.width + at);
        KD_UNROLL
        for (int i = 0; i < kKeys; ++i) {
          const Floats key = codes_at<kBits>(rows[i], at) * scale[i] + bias[i];
          KD_UNROLL
          for (int r = 0; r < ROWS; ++r) sums[r * kKeys + i] += rows_of_q[r] * key;
        }
      }
    }
    const Floats made = sums_of<kLanes / 2>(sums);
    for (int r = 0; r < ROWS; ++r)
      for (int i = 0; i < kKeys; ++i) scores[r * TILE + j + i] = made[r * kKeys + i];
  }
  for (int r = 0; r < ROWS; ++r)
    for (long j = count; j < TILE; ++j) scores[r * TILE + j] = -kInfinity;
}

static void limit(const Block& block, long begin, long count, float* scores) {
  const long from = block.first_key + begin;
  for (long r = 0; r < block.rows; ++r) {
    const Seen seen = seen_by(block, r);
    if (from >= seen.first && from + count <= seen.end && !seen.mask) continue;
    for (long j = 0; j < count; ++j) {
      const long key = from + j;
      if (key < seen.first || key >= seen.end || (seen.mask && !seen.mask[key]))
        scores[r * TILE + j] = hidden_score();
    }
  }
}

// --- sums over values ---

struct Sums {
  float largest[ROWS], powers[ROWS], shrink[ROWS];
};

// Scores become their powers, relative to the largest one so far.
static void take_powers(Sums& sums, float* scores) {
  for (int r = 0; r < ROWS; ++r) {
    float* row = scores + r * TILE;
    Floats most = vector_at(row);
    for (int v = 1; v < kRowVectors; ++v) {
      const Floats part = vector_at(row + v * kLanes);
      most = part > most ? part : most;
    }
    float largest = sums.largest[r];
    for (int i = 0; i < kLanes; ++i) largest = most[i] > largest ? most[i] : largest;
    const float from = largest == -kInfinity ? 0.0f : largest;
    sums.shrink[r] = power_of(all(sums.largest[r] - from))[0];
    Floats powers = {};
    for (int v = 0; v < kRowVectors; ++v) {
      const Floats power = power_of(vector_at(row + v * kLanes) - from);
      put_at(row + v * kLanes, power);
      powers += power;
    }
    float sum = 0;
    for (int i = 0; i < kLanes; ++i) sum += powers[i];
    sums.largest[r] = largest;
    sums.powers[r] = sums.powers[r] * sums.shrink[r] + sum;
  }
}

// Adds powers times values to kColumns vectors of each row of `out` (ROWS, Dv).
template <int kBits, int kColumns>
KD_INLINE void add_columns(const Block& block, const float* powers, const Sums& state,
                           const float* scales, long at, long begin, long count, float* out) {
  const Coded& v = block.v;
  Floats sums[ROWS][kColumns];
  KD_UNROLL
  for (int r = 0; r < ROWS; ++r) {
    KD_UNROLL
    for (int c = 0; c < kColumns; ++c)
      sums[r][c] = vector_at(out + r * v.width + at + c * kLanes) * state.shrink[r];
  }
  for (long j = 0; j < count; ++j) {
    const unsigned char* row = v.row(begin + j);
    Floats power[ROWS];
    KD_UNROLL
    for (int r = 0; r < ROWS; ++r) power[r] = all(powers[r * TILE + j]);
    KD_UNROLL
    for (int c = 0; c < kColumns; ++c) {
      const long i = at + c * kLanes;
      const float* numbers = scales + (j * v.groups + i / v.group) * 2;
      const Floats value = codes_at<kBits>(row, i) * numbers[0] + numbers[1];
      KD_UNROLL
      for (int r = 0; r < ROWS; ++r) sums[r][c] += power[r] * value;
    }
  }
  KD_UNROLL
  for (int r = 0; r < ROWS; ++r) {
    KD_UNROLL
    for (int c = 0; c < kColumns; ++c) put_at(out + r * v.width + at + c * kLanes, sums[r][c]);
  }
}

template <int kBits>
static void add_tile(const Block& block, const float* powers, const Sums& state,
                     const float* scales, long begin, long count, float* out) {
  long at = 0;
  const long width = block.v.width;
  for (; at + 4 * kLanes <= width; at += 4 * kLanes)
    add_columns<kBits, 4>(block, powers, state, scales, at, begin, count, out);
  for (; at < width; at += kLanes)
    add_columns<kBits, 1>(block, powers, state, scales, at, begin, count, out);
}

// What is made of a tile.
struct Work {
  alignas(64) float scores[ROWS * TILE];
  float scales[TILE * kMostGroups * 2];
};

// What a part of the keys comes to so far.
template <int kBits>
struct Tiles {
  alignas(64) float q[ROWS * kWidest];
  Sums state;

  void open(const Block& block) {
    load_queries(block, q);
    for (int r = 0; r < ROWS; ++r) state.largest[r] = -kInfinity, state.powers[r] = 0;
  }
  // Rows of `out` are of Dv floats.
  void add(Work& work, const Block& block, long begin, long count, const Ahead& ahead, float* out) {
    if (PREFETCH) fetch_rows(block.v, begin, count);
    widen_scales(block.k, begin, count, work.scales);
    score_tile<kBits>(block, q, work.scales, begin, count, work.scores);
    if (has_limits(block, block.first_key + begin + count)) limit(block, begin, count, work.scores);
    take_powers(state, work.scores);
    if (PREFETCH) fetch_rows(ahead.keys, ahead.first, ahead.count);
    widen_scales(block.v, begin, count, work.scales);
    add_tile<kBits>(block, work.scores, state, work.scales, begin, count, out);
  }
  void finish(const Block&, float*) {}
  float largest(long r) const { return state.largest[r]; }
  float powers(long r) const { return state.powers[r]; }
};
