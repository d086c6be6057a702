// clang-format off
// The gates of a head of mLSTM, for the Metal kernels: what gates.cpu.h says, with sums of logarithms as pairs of
// floats instead of doubles. Of each token, from `tokens` on: u and its rest, x and its rest, the weight of the
// state before the chunk, exp(-m) or 1, the first token of the chunk that has a weight, and whose value m took.
#pragma once
#define GATE_FLOATS 8
#define U 0
#define U_REST 1
#define X 2
#define X_REST 3
#define PAST 4
#define FLOOR 5
#define FIRST 6
#define TURN 7
#define TURN_PAST 0.0f
#define TURN_INPUT 1.0f
#define TURN_KEPT 2.0f

// log(sigmoid(x)) = min(x, 0) - log(1 + e), e = exp(-|x|); log(1 + e) = 2 artanh(e / (2 + e)).
static float log_sigmoid(float x) {
  const float e = precise::exp(-fabs(x));
  const float z = e / (2.0f + e);
  const float y = z * z;
  float sum = 1.0f / 17.0f;
  for (int odd = 15; odd > 0; odd -= 2) sum = sum * y + 1.0f / float(odd);
  return (x > 0.0f ? 0.0f : x) - 2.0f * z * sum;
}

// A number as a sum of two floats, the second far smaller.
struct Pair {
  float high;
  float rest;
};
static Pair added(Pair a, float b) {
  const float sum = a.high + b;
  if (isinf(sum) || isnan(sum)) return Pair{sum, 0.0f};
  const float part = sum - a.high;
  const float lost = (a.high - (sum - part)) + (b - part);
  const float rest = a.rest + lost;
  const float high = sum + rest;
  return Pair{high, rest - (high - sum)};
}
static Pair sum_of(Pair a, Pair b) {
  return added(added(a, b.high), b.rest);
}
static Pair minus(Pair a) {
  return Pair{-a.high, -a.rest};
}
static bool is_above(Pair a, Pair b) {
  return a.high > b.high || (a.high == b.high && a.rest > b.rest);
}

// What goes from token to token: b, m and x as pairs; whether the state before the chunk still counts; whether m is
// infinite.
struct Course {
  Pair b;
  Pair m;
  Pair x;
  int first;
  bool has_past;
  bool is_full;
};

// Returns u of the token.
static Pair take_exponential(thread Course& c, float log_f, float i, int t, thread float& turn) {
  const Pair none = Pair{-INFINITY, 0.0f};
  turn = TURN_PAST;
  if (log_f == -INFINITY) {
    c.first = t;
    c.has_past = false;
    c.b = Pair{0.0f, 0.0f};
    if (i == -INFINITY) {
      c.x = c.is_full ? Pair{0.0f, 0.0f} : c.m;
      turn = TURN_KEPT;
      return none;
    }
    c.is_full = false;
    c.x = none;
  } else if (!c.is_full) {
    c.b = added(c.b, log_f);
  }
  if (i == INFINITY) {
    c.first = t;
    c.has_past = false;
    c.b = Pair{0.0f, 0.0f};
    c.x = Pair{0.0f, 0.0f};
    c.is_full = true;
    turn = TURN_INPUT;
    return Pair{0.0f, 0.0f};
  }
  if (c.is_full) {
    turn = TURN_KEPT;
    return none;
  }
  const Pair u = added(minus(c.b), i);
  if (is_above(u, c.x) || isnan(u.high)) {
    c.x = u;
    turn = TURN_INPUT;
  }
  return u;
}

static Pair take_sigmoid(thread Course& c, float log_f, float i, int t) {
  if (log_f == -INFINITY) {
    c.first = t;
    c.has_past = false;
    c.b = Pair{0.0f, 0.0f};
  } else {
    c.b = added(c.b, log_f);
  }
  c.x = minus(c.b);
  return added(minus(c.b), log_sigmoid(i));
}

// All chunks of a head; returns m at the end, its rest in `rest`.
static float find_gates(const device float* i, const device float* f, device float* tokens, int count, int chunk,
                        float m, bool sigmoid, thread float& rest) {
  Course c = Course{Pair{0.0f, 0.0f}, Pair{m, 0.0f}, Pair{0.0f, 0.0f}, 0, true, m == INFINITY};
  Pair before = Pair{0.0f, 0.0f};
  for (int t = 0; t < count; ++t) {
    const int at = t % chunk;
    if (at == 0) {
      c.is_full = c.m.high == INFINITY;
      before = c.is_full ? Pair{0.0f, 0.0f} : c.m;
      c.b = Pair{0.0f, 0.0f};
      c.x = before;
      c.first = 0;
      c.has_past = true;
    }
    const float log_f = log_sigmoid(f[t]);
    float turn = TURN_PAST;
    const Pair u = sigmoid ? take_sigmoid(c, log_f, i[t], at) : take_exponential(c, log_f, i[t], at, turn);
    c.m = c.is_full ? Pair{INFINITY, 0.0f} : sum_of(c.b, c.x);
    const bool is_nothing = c.x.high == -INFINITY;
    const Pair past = sigmoid ? c.b : sum_of(before, minus(c.x));
    device float* token = tokens + ulong(t) * GATE_FLOATS;
    token[U] = u.high;
    token[U_REST] = u.rest;
    token[X] = is_nothing ? 0.0f : c.x.high;
    token[X_REST] = is_nothing ? 0.0f : c.x.rest;
    token[PAST] = c.has_past && !is_nothing ? precise::exp(past.high + past.rest) : 0.0f;
    token[FLOOR] = sigmoid ? 1.0f : precise::exp(-c.m.high);
    token[FIRST] = float(c.first);
    token[TURN] = turn;
  }
  rest = sigmoid ? 0.0f : c.m.rest;
  return sigmoid ? 0.0f : c.m.high;
}

// The weight of the token s in row t, both within a chunk that begins at `tokens`.
static float weight_of(const device float* tokens, int t, int s) {
  const device float* row = tokens + t * GATE_FLOATS;
  const device float* token = tokens + s * GATE_FLOATS;
  if (s > t || float(s) < row[FIRST]) return 0.0f;
  return precise::exp((token[U] - row[X]) + (token[U_REST] - row[X_REST]));
}
