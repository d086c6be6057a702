// Sums of floats in a given order, each addition rounded, as a loop s += p[i] makes them, but not
// one by one.
//
// As long as s stays within [2^e, 2^(e+1)], every addition of p >= 0 adds the multiple of s's unit
// in the last place that is nearest to p: an integer, which does not depend on s unless p lies
// exactly between two. So a block's additions are a sum of integers, in any order and vectorised,
// checked afterwards: blocks in which s leaves the range, or that have such a p, are added one by
// one.
#pragma once
#include "mlx_numbers.cpu.h"
constexpr long kBlockOfSum = 128;  // at most 2^23 each, so that their sum is an int

struct Unit {
  float ulps;  // s, in units
  float in_one, unit;
};

// false: s is 0, or too small or large for a factor that is a float.
KD_INLINE bool unit_of(float s, Unit& found) {
  const int exponent = int(bits_of(s) >> 23) - 127;
  if (exponent < -100 || exponent > 100) return false;
  found.in_one = float_of(unsigned(127 + 23 - exponent) << 23);
  found.unit = float_of(unsigned(127 - 23 + exponent) << 23);
  found.ulps = s * found.in_one;
  return true;
}

static inline float add_one_by_one(float s, const float* p, long count) {
  for (long i = 0; i < count; ++i) s += p[i];
  return s;
}

// The terms as integers: their sum, the largest's bits, and whether one lies between two units.
struct Terms {
  int sum, most, ties;
};

KD_INLINE Terms terms_of(const float* p, long count, float in_one) {
  Terms terms = {};
  for (long i = 0; i < count; ++i) {
    const float ulps = p[i] * in_one;
    const float whole = __builtin_rintf(ulps);
    const int bits = int(bits_of(ulps));
    terms.most = bits > terms.most ? bits : terms.most;
    terms.ties |= __builtin_fabsf(ulps - whole) == 0.5f ? 1 : 0;
    terms.sum += int(whole);
  }
  return terms;
}

// Whether the count <= kBlockOfSum terms are added to s as integers.
static inline bool add_as_integers(float& s, const float* p, long count) {
  Unit unit;
  if (!unit_of(s, unit)) return false;
  const Terms terms = count == kBlockOfSum ? terms_of(p, kBlockOfSum, unit.in_one)
                                           : terms_of(p, count, unit.in_one);
  if (terms.ties || !(float_of(unsigned(terms.most)) < 0x1p23f)) return false;
  const int all = int(unit.ulps) + terms.sum;
  if (all > 1 << 24) return false;
  s = float(all) * unit.unit;
  return true;
}

// s after all of p[0, count), p[i] >= 0.
static inline float serial_sum(float s, const float* p, long count) {
  for (long at = 0; at < count; at += kBlockOfSum) {
    const long some = count - at < kBlockOfSum ? count - at : kBlockOfSum;
    if (add_as_integers(s, p + at, some)) continue;
    for (long part = 0; part < some; part += 16) {
      const long few = some - part < 16 ? some - part : 16;
      if (!add_as_integers(s, p + at + part, few)) s = add_one_by_one(s, p + at + part, few);
    }
  }
  return s;
}

// s after adding p >= 0 as often as `times`.
static inline float serial_sum_of_equals(float s, float p, long times) {
  while (times > 0) {
    const float next = s + p;
    if (next == s) break;
    Unit unit;
    if (!unit_of(s, unit)) {
      s = next, --times;
      continue;
    }
    const float ulps = p * unit.in_one, whole = __builtin_rintf(ulps);
    const bool is_tie = __builtin_fabsf(ulps - whole) == 0.5f;
    const long room =
        is_tie || !(ulps < 0x1p23f) ? 0 : ((1L << 24) - long(unit.ulps)) / long(whole);
    if (room < 2) {
      s = next, --times;
      continue;
    }
    const long steps = times < room ? times : room;
    s = float(long(unit.ulps) + steps * long(whole)) * unit.unit;
    times -= steps;
  }
  return s;
}

// The last i < count for which the sum of p[0, i) is at most `most`; marks[j] is the sum of
// p[0, j * each).
static inline long last_below(const float* p, long count, const float* marks, long each,
                              float most) {
  long block = (count - 1) / each;
  while (block > 0 && marks[block] > most) --block;
  float s = marks[block];
  long last = block * each;
  for (long i = block * each; i < count && s <= most; ++i) last = i, s += p[i];
  return last;
}
