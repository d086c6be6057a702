// What a row is sampled with, and the keys of its draws.
#pragma once
#include "../../common/kd_arguments.h"
#include "../mlx_numbers.cpu.h"
extern "C" double log(double);

struct Settings {
  float inverse_temperature;  // 0: greedy
  float top_p, log_min_p;     // off: 0, -inf
  long least_kept, top_k;     // of min_p; 0: off
  float xtc_probability, xtc_threshold;
};

constexpr long kSettings = 7;  // columns of the port, in this order

KD_INLINE Settings settings_of(const kd_arguments* a, long row) {
  if (a->dims[KD_DIM_each_row]) {
    const float* const s = (const float*)a->inputs[KD_PORT_settings] + row * kSettings;
    return {s[0], s[1], s[2], long(s[3]), long(s[4]), s[5], s[6]};
  }
  const double temperature = a->scalars[KD_SCALAR_temperature];
  const double min_p = a->scalars[KD_SCALAR_min_p];
  return {temperature == 0 ? 0.0f : float(1.0 / temperature),
          float(a->scalars[KD_SCALAR_top_p]),
          min_p == 0 ? -kInfinity : float(log(min_p)),
          long(a->scalars[KD_SCALAR_min_tokens_to_keep]),
          long(a->scalars[KD_SCALAR_top_k]),
          float(a->scalars[KD_SCALAR_xtc_probability]),
          float(a->scalars[KD_SCALAR_xtc_threshold])};
}

KD_INLINE bool is_top_p(float top_p) {
  return top_p > 0 && top_p < 1;
}

struct Draws {
  Key xtc, token;
};

// Keys of draws: split off a state, or those of a list (keys, 2), whose last serves all that
// follow.
struct Keys {
  Key state;
  const unsigned* list;
  long count, taken;

  Key next() {
    if (count == 0) return take_key(state);
    const long at = taken < count ? taken : count - 1;
    ++taken;
    return {list[2 * at], list[2 * at + 1]};
  }
};

KD_INLINE Draws next_draws(Keys& keys, const Settings& settings) {
  Draws draws = {};
  if (settings.inverse_temperature != 0) {
    if (settings.xtc_probability > 0) draws.xtc = keys.next();
    draws.token = keys.next();
  }
  return draws;
}

// Rows with settings of their own are drawn one after the other, others together.
static inline Draws draws_of(const kd_arguments* a, long row) {
  const unsigned* const key = (const unsigned*)a->inputs[KD_PORT_key];
  Keys keys = {{key[0], key[1]}, key, a->dims[KD_DIM_keys], 0};
  for (long i = 0; i < row && a->dims[KD_DIM_each_row]; ++i) next_draws(keys, settings_of(a, i));
  return next_draws(keys, settings_of(a, row));
}
