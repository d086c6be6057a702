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

static void fetch_rows(const Coded& coded, const Piece& piece) {
  for (long j = piece.first; j < piece.first + piece.count; ++j) fetch(coded.row(j), coded.bytes);
  fetch_numbers(coded, piece.first, piece.count);
}

// Scores of the keys of a piece, (ROWS, TILE), for kLanes / ROWS keys at once.
template <int kBits>
static void score_tile(const Piece& piece, const float* q, const float* scales, float* scores) {
  constexpr int kKeys = kLanes / ROWS;
  const Coded& k = piece.k;
  const long begin = piece.first, count = piece.count;
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

static void limit(const Block& block, long from, long count, float* scores) {
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
KD_INLINE void add_columns(const Piece& piece, const float* powers, const Sums& state,
                           const float* scales, long at, float* out) {
  const Coded& v = piece.v;
  Floats sums[ROWS][kColumns];
  KD_UNROLL
  for (int r = 0; r < ROWS; ++r) {
    KD_UNROLL
    for (int c = 0; c < kColumns; ++c)
      sums[r][c] = vector_at(out + r * v.width + at + c * kLanes) * state.shrink[r];
  }
  for (long j = 0; j < piece.count; ++j) {
    const unsigned char* row = v.row(piece.first + j);
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
static void add_tile(const Piece& piece, const float* powers, const Sums& state,
                     const float* scales, float* out) {
  long at = 0;
  const long width = piece.v.width;
  for (; at + 4 * kLanes <= width; at += 4 * kLanes)
    add_columns<kBits, 4>(piece, powers, state, scales, at, out);
  for (; at < width; at += kLanes) add_columns<kBits, 1>(piece, powers, state, scales, at, out);
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
  // A tile of one piece; rows of `out` are of Dv floats.
  void add(Work& work, const Block& block, const Tile& tile, const Tile& next, float* out) {
    const Piece& piece = tile.pieces[0];
    if (PREFETCH) fetch_rows(piece.v, piece);
    widen_scales(piece.k, piece.first, piece.count, work.scales);
    score_tile<kBits>(piece, q, work.scales, work.scores);
    if (has_limits(block, tile.first_key + tile.count))
      limit(block, tile.first_key, tile.count, work.scores);
    take_powers(state, work.scores);
    if (PREFETCH && next.number > 0) fetch_rows(next.pieces[0].k, next.pieces[0]);
    widen_scales(piece.v, piece.first, piece.count, work.scales);
    add_tile<kBits>(piece, work.scores, state, work.scales, out);
  }
  void finish(const Block&, float*) {}
  float largest(long r) const { return state.largest[r]; }
  float powers(long r) const { return state.powers[r]; }
};
