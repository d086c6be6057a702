// The gates of a chunk of mLSTM as the exponents of its weights, for the CPU kernels.
//
// With b_t the sum of log sigmoid(f) up to t, the token s has the weight exp(u_s - x_t) in row t:
//   exponential gate  u_s = i_s - b_s, x_t = the larger of m before the chunk and all u up to t;
//                     m_t = b_t + x_t, the state before the chunk has the weight exp(m - x_t)
//   sigmoid gate      u_s = log sigmoid(i_s) - b_s, x_t = -b_t; the state has exp(b_t)
// b is summed in double, and u and x are kept as two floats each: their difference loses nothing,
// however long the chunk is. f = -inf makes b begin anew: no token before `first` has a weight in
// the rows from there on, nor has the state. i = +inf does the same, and no other token has a
// weight until f = -inf, or +inf again: m is infinite.
#pragma once
#include "blocks.cpu.h"

// Whose value m took, that is where its gradient goes.
enum Turn { kPast, kInput, kKept };  // f and m before it; i; m before it alone

// Of each token of a chunk; arrays of `room` floats.
struct Gates {
  float *u, *u_rest, *x, *x_rest;
  float* past;   // the weight of the state before the chunk
  float* floor;  // exp(-m), or 1
  int *first, *turn;
};
constexpr long kGateArrays = 8;
KD_INLINE Gates gates_at(float* at, long room) {
  return {at,
          at + room,
          at + 2 * room,
          at + 3 * room,
          at + 4 * room,
          at + 5 * room,
          (int*)(at + 6 * room),
          (int*)(at + 7 * room)};
}

KD_INLINE void split(double value, float& high, float& rest) {
  high = float(value);
  const bool is_finite = high - high == 0;
  rest = is_finite ? float(value - double(high)) : 0.0f;
}

// What goes from token to token.
struct Course {
  double b, m, x;
  long first;
  bool has_past, is_full;  // is_full: m is infinite
};

KD_INLINE double take_exponential(Course& c, double log_f, double i, long t, int& turn) {
  const double infinite = double(kInfinity);
  turn = kPast;
  if (log_f == -infinite) {
    c.first = t, c.has_past = false, c.b = 0;
    if (i == -infinite) {
      c.x = c.is_full ? 0 : c.m, turn = kKept;
      return -infinite;
    }
    c.is_full = false, c.x = -infinite;
  } else if (!c.is_full) {
    c.b += log_f;
  }
  if (i == infinite) {
    c.first = t, c.has_past = false, c.b = c.x = 0, c.is_full = true, turn = kInput;
    return 0;
  }
  if (c.is_full) {
    turn = kKept;
    return -infinite;
  }
  const double u = i - c.b;
  if (u > c.x || u != u) c.x = u, turn = kInput;
  return u;
}

KD_INLINE double take_sigmoid(Course& c, double log_f, double log_i, long t) {
  if (log_f == -double(kInfinity))
    c.first = t, c.has_past = false, c.b = 0;
  else
    c.b += log_f;
  c.x = -c.b;
  return log_i - c.b;
}

// Of `count` tokens, after a state with m; returns m at the end. `room` is a multiple of 16. Tokens
// beyond have no weight, and rows beyond are like the last.
KD_APART double find_gates(const Gates& to, const float* i, const float* f, long count, double m,
                           bool sigmoid) {
  const long all = padded(count);
  const auto logs = [&](const float* from, float* made, bool as_is) {
    for (long t = 0; t < all; t += kFloats) {
      float some[kFloats];
      for (int j = 0; j < kFloats; ++j) some[j] = t + j < count ? from[t + j] : 0.0f;
      store(made + t, as_is ? load(some) : log_sigmoid(load(some)));
    }
  };
  logs(f, to.past, false);
  logs(i, to.u, !sigmoid);
  const bool was_full = m == double(kInfinity);
  const double before = was_full ? 0 : m;
  Course c = {0, m, before, 0, true, was_full};
  for (long t = 0; t < count; ++t) {
    const double log_f = double(to.past[t]), in = double(to.u[t]);
    int turn = kPast;
    const double u =
        sigmoid ? take_sigmoid(c, log_f, in, t) : take_exponential(c, log_f, in, t, turn);
    c.m = c.is_full ? double(kInfinity) : c.b + c.x;
    const bool is_nothing = c.x == -double(kInfinity);
    const double past = sigmoid ? c.b : before - c.x;
    split(u, to.u[t], to.u_rest[t]);
    split(is_nothing ? 0 : c.x, to.x[t], to.x_rest[t]);
    to.past[t] = c.has_past && !is_nothing ? float(past) : -kInfinity;
    to.floor[t] = sigmoid ? 0.0f : float(-c.m);
    to.first[t] = int(c.first), to.turn[t] = turn;
  }
  for (long t = count; t < all; ++t) {
    to.u[t] = -kInfinity, to.u_rest[t] = 0;
    to.x[t] = to.x_rest[t] = to.floor[t] = 0;
    to.past[t] = -kInfinity, to.first[t] = int(t), to.turn[t] = kPast;
  }
  for (long t = 0; t < all; t += kFloats) {
    store(to.past + t, power(load(to.past + t)));
    store(to.floor + t, any_power(load(to.floor + t)));
  }
  return sigmoid ? 0 : c.m;
}

// The weights of the tokens [s, s + kFloats) in row t, where `row` may be before s.
KD_INLINE Floats weights(const Gates& g, long t, long s) {
  const Floats exponent = (load(g.u + s) - g.x[t]) + (load(g.u_rest + s) - g.x_rest[t]);
  Ints token = Ints{} + int(s);
  KD_UNROLL
  for (int i = 0; i < kFloats; ++i) token[i] += i;
  const Floats made = power(exponent);
  const Ints is_seen = (token >= g.first[t]) & (token <= int(t));
  return is_seen ? made : Floats{};
}
