// The draw of a token, as mx.random.categorical makes it: of one row by the inverse of its
// cumulative distribution, of several rows as the largest of scores with Gumbel noise.
#pragma once
#include "row.cpu.h"

// What is left of a row: candidates in the order of their ids, or all of at least a threshold.
struct Left {
  Candidate* list;  // null: all of at least `least`
  long count;
  float least;
};

KD_INLINE float scaled(float logprob, float by) {
  return rounded(logprob * by);
}

// Of which MLX makes a token, infinite where nothing is left or 1 / temperature is too large.
static float largest_scaled(const Row& row, const Left& left, float by) {
  float best = left.list ? -kInfinity : row.best;
  for (long i = 0; left.list && i < left.count; ++i)
    best = left.list[i].logprob > best ? left.list[i].logprob : best;
  return scaled(best, by);
}

constexpr long kMark = 4096;

// Weights lie at row.p, the sums at each kMark-th of them at row.table.
static long inverse_of_sum(const Row& row, long count, float uniform) {
  float* const marks = (float*)row.table;
  float s = 0;
  for (long at = 0; at < count; at += kMark) {
    marks[at / kMark] = s;
    s = serial_sum(s, row.p + at, count - at < kMark ? count - at : kMark);
  }
  return last_below(row.p, count, marks, kMark, uniform * s);
}

static long draw_alone(const Row& row, const Left& left, float by, Key key) {
  const float most = largest_scaled(row, left, by);
  const float uniform = uniform_of(word_of(key, 0, 1));
  if (most == -kInfinity || most != most) {
    const float at = uniform * float(row.count);
    return most != most ? 0 : long(at) < row.count ? long(at) : row.count - 1;
  }
  const bool is_infinite = most == kInfinity;
  float* const weights = row.p;
  if (left.list) {
    for (long i = 0; i < left.count; ++i) {
      const float x = scaled(left.list[i].logprob, by);
      weights[i] = is_infinite ? float(x == most) : exp_as_mlx(x - most);
    }
    return left.list[inverse_of_sum(row, left.count, uniform)].id;
  }
  for (long from = 0; from < row.count; from += kChunk) {
    float logprobs[kChunk], made[kChunk];
    logprobs_of(row, from, logprobs);
    for (long i = 0; i < kChunk; ++i) {
      const float x = scaled(logprobs[i], by);
      const float weight = is_infinite ? float(x == most) : exp_as_mlx(x - most);
      made[i] = logprobs[i] >= left.least ? weight : 0.0f;
    }
    const long some = row.count - from < kChunk ? row.count - from : kChunk;
    for (long i = 0; i < some; ++i) weights[from + i] = made[i];
  }
  return inverse_of_sum(row, row.count, uniform);
}

// log(y) of a normal y > 0, to 2e-7 of itself near 1 and 2e-7 elsewhere.
KD_INLINE float log_about(float y) {
  const int shifted = int(bits_of(y)) - 0x3f3504f3;  // 2^-1/2 <= mantissa < 2^1/2
  const int exponent = shifted >> 23;
  const float mantissa = float_of(bits_of(y) - (unsigned(exponent) << 23));
  const float z = (mantissa - 1) / (mantissa + 1), z2 = z * z;
  const float series = 1 + z2 * (1 / 3.0f + z2 * (0.2f + z2 * (1 / 7.0f + z2 * (1 / 9.0f))));
  return float(exponent) * 0.6931471806f + 2 * z * series;
}

// x + noise as MLX computes it.
static float score_of(float x, unsigned word) {
  return -logf(-logf(uniform_of(word))) + x;
}

// The best so far: of equal scores the first.
struct Best {
  float score;
  long id;
  void offer(float x, unsigned word, long at) {
    const float made = score_of(x, word);
    if (made > score) score = made, id = at;
  }
};

// Scores of a chunk from approximate logarithms; those that may exceed the best are computed.
KD_INLINE void offer_chunk(Best& best, const float* x, const unsigned* words, long count,
                           const unsigned* ids) {
  float about[kChunk];
  float most = -kInfinity;
  for (long i = 0; i < kChunk; ++i) {
    const float u = uniform_of(words[i]);
    const float noise = u > 0 ? -log_about(-log_about(u < 1e-30f ? 1e-30f : u)) : -kInfinity;
    about[i] = noise + x[i];
  }
  for (long i = 0; i < kChunk; ++i) most = about[i] > most ? about[i] : most;
  const float above = most > best.score ? most : best.score;
  const float enough = above - 1e-3f - 1e-6f * __builtin_fabsf(above);
  if (most < enough) return;
  for (long i = 0; i < count; ++i)
    if (about[i] >= enough) best.offer(x[i], words[i], ids[i]);
}

// Row `index` of `rows` that are drawn together with one key.
static long draw_together(const Row& row, const Left& left, float by, Key key, long index,
                          long rows) {
  const unsigned all = unsigned(rows * row.count), first = unsigned(index * row.count);
  Best best = {-kInfinity, 0};
  const long count = left.list ? left.count : row.count;
  for (long from = 0; from < count; from += kChunk) {
    const long some = count - from < kChunk ? count - from : kChunk;
    float x[kChunk];
    unsigned words[kChunk], ids[kChunk];
    if (left.list) {
      for (long i = 0; i < kChunk; ++i) {
        const Candidate each = i < some ? left.list[from + i] : Candidate{-kInfinity, 0};
        x[i] = scaled(each.logprob, by), ids[i] = each.id;
      }
    } else {
      logprobs_of(row, from, x);
      for (long i = 0; i < kChunk; ++i) {
        x[i] = x[i] >= left.least ? scaled(x[i], by) : -kInfinity;
        ids[i] = unsigned(from + i);
      }
    }
    for (long i = 0; i < kChunk; ++i) words[i] = word_of(key, first + ids[i], all);
    offer_chunk(best, x, words, some, ids);
  }
  return best.id;
}
