// clang-format off
// What a row is sampled with, the keys of its draws, and what filters leave.
#pragma once
#include "../../common/kd_arguments.h"
#include "sums.cu.h"

#define KD_PORT_key 1
#define KD_PORT_special_tokens 2
#define KD_PORT_settings 3

struct Key {
  unsigned first, second;
};

// Threefry-2x32, 20 rounds (Salmon et al. 2011).
static __device__ __forceinline__ Key hash_here(Key key, unsigned a, unsigned b) {
  const unsigned third = key.first ^ key.second ^ 0x1bd11bdau;
  a += key.first, b += key.second;
#define KD_ROUND(by) a += b, b = __funnelshift_l(b, b, by), b ^= a
#define KD_FOUR(w, x, y, z, more_a, more_b, turn) \
  KD_ROUND(w), KD_ROUND(x), KD_ROUND(y), KD_ROUND(z), a += more_a, b += more_b + turn
  KD_FOUR(13, 15, 26, 6, key.second, third, 1);
  KD_FOUR(17, 29, 16, 24, third, key.first, 2);
  KD_FOUR(13, 15, 26, 6, key.first, key.second, 3);
  KD_FOUR(17, 29, 16, 24, key.second, third, 4);
  KD_FOUR(13, 15, 26, 6, third, key.first, 5);
#undef KD_FOUR
#undef KD_ROUND
  return {a, b};
}

static __device__ __noinline__ Key hash_of(Key key, unsigned a, unsigned b) {
  return hash_here(key, a, b);
}

// In [0, 1): element i of `count` uniform numbers of a key, as mx.random.uniform makes them.
static __device__ __noinline__ float uniform_of(Key key, unsigned i, unsigned count) {
  const unsigned half = count / 2, odd = count % 2;
  const bool is_first = i < half, is_middle = odd && i == half;
  const unsigned a = is_first || is_middle ? i : i - half - odd;
  const Key hash = hash_of(key, a, is_middle ? 0 : a + half + odd);
  return fminf((float)(is_first || is_middle ? hash.first : hash.second) * 0x1p-32f, 0x1.fffffep-1f);
}

struct Settings {
  float inverse_temperature;  // 0: greedy
  float top_p, log_min_p;     // off: 0, -inf
  float least_kept, top_k;    // of min_p; 0: off
  float xtc_probability, xtc_threshold;
};

static __device__ Settings settings_of(const kd_arguments& a, unsigned row) {
  if (a.dims[KD_DIM_each_row]) {
    const float* const s = (const float*)a.inputs[KD_PORT_settings] + row * 7;
    return {s[0], s[1], s[2], s[3], s[4], s[5], s[6]};
  }
  const double temperature = a.scalars[KD_SCALAR_temperature], min_p = a.scalars[KD_SCALAR_min_p];
  return {temperature == 0 ? 0.0f : (float)(1.0 / temperature),
          (float)a.scalars[KD_SCALAR_top_p],
          min_p == 0 ? -infinity() : (float)log(min_p),
          (float)a.scalars[KD_SCALAR_min_tokens_to_keep],
          (float)a.scalars[KD_SCALAR_top_k],
          (float)a.scalars[KD_SCALAR_xtc_probability],
          (float)a.scalars[KD_SCALAR_xtc_threshold]};
}

struct Draws {
  Key xtc, token;
  float uniform;  // of a row that is drawn alone
};

// Keys are split off a state, or those of a list, whose last serves all that follow. Rows with settings of their own
// take theirs after the rows before them. A whole warp.
static __device__ Draws draws_of(const kd_arguments& a, unsigned row, const Settings& settings) {
  const unsigned* const key = (const unsigned*)a.inputs[KD_PORT_key];
  const unsigned count = (unsigned)a.dims[KD_DIM_keys];
  unsigned taken = 0;
  for (unsigned i = lane_id(); a.dims[KD_DIM_each_row] && i < row; i += 32) {
    const float* const of_row = (const float*)a.inputs[KD_PORT_settings] + i * 7;
    if (of_row[0] != 0.0f) taken += of_row[5] > 0.0f ? 2 : 1;
  }
  taken = count_of_warp(taken);
  Key state = {key[0], key[1]};
  const unsigned half = lane_id() % 2;  // the halves of a split are made by lanes next to one another
#pragma unroll 1
  for (unsigned i = 0; count == 0 && i < taken; ++i) {
    const unsigned made = hash_here(state, half, half + 2).first;
    state = {__shfl_sync(kAll, made, 0), __shfl_sync(kAll, made, 1)};
  }
  const auto next = [&]() -> Key {
    if (count > 0) {
      const unsigned at = min(taken++, count - 1);
      return {key[2 * at], key[2 * at + 1]};
    }
    const Key made = hash_of(state, half, half + 2);
    state = {__shfl_sync(kAll, made.first, 0), __shfl_sync(kAll, made.first, 1)};
    return {__shfl_sync(kAll, made.second, 0), __shfl_sync(kAll, made.second, 1)};
  };
  Draws draws = {};
  if (settings.inverse_temperature == 0.0f) return draws;
  if (settings.xtc_probability > 0.0f) draws.xtc = next();
  draws.token = next();
  draws.uniform = uniform_of(draws.token, 0, 1);
  return draws;
}

static __device__ float rounded(float x) {
  return widen(narrow(x));
}

// What filters leave.
struct Kept {
  float least;          // at least this
  float tie;            // of those equal to it only from tie_from on
  unsigned tie_from;
  float most;           // at most this, but for special tokens
  float kth;            // above it, or equal to it before kth_until
  unsigned kth_until;
  bool is_simple;       // only `least` is set

  __device__ Kept() : least(-infinity()), tie(infinity()), tie_from(0), most(infinity()), kth(-infinity()), kth_until(~0u), is_simple(true) {}
};

static __device__ __noinline__ bool is_left(Kept left, const int* special_tokens, unsigned special, unsigned count, float y,
                                            unsigned i) {
  if (y < left.least || (y == left.tie && i < left.tie_from)) return false;
  if (y < left.kth || (y == left.kth && i >= left.kth_until)) return false;
  if (y <= left.most) return true;
  for (unsigned s = 0; s < special; ++s)
    if ((special_tokens[s] < 0 ? special_tokens[s] + (int)count : special_tokens[s]) == (int)i) return true;
  return false;
}
