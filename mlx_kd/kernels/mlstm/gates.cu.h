// clang-format off
// Gates of mLSTM in CUDA C++, as gates.metal.h has them: sums of logarithms as pairs of floats.
#pragma once
static __device__ float infinity() {
  return __int_as_float(0x7f800000);
}

static __device__ bool is_nan(float x) {
  return x != x;
}

// log(sigmoid(x)) = min(x, 0) - log(1 + e), e = exp(-|x|); log(1 + e) = 2 artanh(e / (2 + e)).
static __device__ float log_sigmoid(float x) {
  const float e = expf(-fabsf(x)), z = e / (2.0f + e), y = z * z;
  float sum = 1.0f / 17.0f;
#pragma unroll
  for (int odd = 15; odd > 0; odd -= 2) sum = sum * y + 1.0f / (float)odd;
  return (x > 0.0f ? 0.0f : x) - 2.0f * z * sum;
}

// A number as a sum of two floats, the second far smaller.
struct Pair {
  float high, rest;
};
static __device__ Pair added(Pair a, float b) {
  const float sum = a.high + b;
  if (is_nan(sum) || fabsf(sum) == infinity()) return {sum, 0.0f};
  const float part = sum - a.high, lost = (a.high - (sum - part)) + (b - part);
  const float rest = a.rest + lost, high = sum + rest;
  return {high, rest - (high - sum)};
}
static __device__ Pair sum_of(Pair a, Pair b) {
  return added(added(a, b.high), b.rest);
}
static __device__ Pair minus(Pair a) {
  return {-a.high, -a.rest};
}
static __device__ bool is_above(Pair a, Pair b) {
  return a.high > b.high || (a.high == b.high && a.rest > b.rest);
}

static __device__ float scaled(float by, float x) {
  return by == 0.0f ? 0.0f : by * x;
}

// ---- chunks of a sequence

// Of a token, as gates.metal.h has them.
struct Gate {
  float u, u_rest, x, x_rest, past, floor;
  int first, turn;
};
constexpr int kTurnPast = 0, kTurnInput = 1, kTurnKept = 2;

// What goes from token to token: b, m and x as pairs; the first token with a weight; whether the state before the chunk
// still counts; whether m is infinite.
struct Course {
  Pair b, m, x;
  int first;
  bool has_past, is_full;
};

static __device__ Course course_of(Pair m) {
  const bool is_full = m.high == infinity();
  return {{0.0f, 0.0f}, m, is_full ? Pair{0.0f, 0.0f} : m, 0, true, is_full};
}

// Returns u of the token.
static __device__ Pair take_exponential(Course& c, float log_f, float i, int t, int& turn) {
  const Pair none = {-infinity(), 0.0f};
  turn = kTurnPast;
  if (log_f == -infinity()) {
    c.first = t, c.has_past = false, c.b = {0.0f, 0.0f};
    if (i == -infinity()) {
      c.x = c.is_full ? Pair{0.0f, 0.0f} : c.m;
      turn = kTurnKept;
      return none;
    }
    c.is_full = false;
    c.x = none;
  } else if (!c.is_full) {
    c.b = added(c.b, log_f);
  }
  if (i == infinity()) {
    c.first = t, c.has_past = false, c.b = {0.0f, 0.0f}, c.x = {0.0f, 0.0f};
    c.is_full = true;
    turn = kTurnInput;
    return {0.0f, 0.0f};
  }
  if (c.is_full) {
    turn = kTurnKept;
    return none;
  }
  const Pair u = added(minus(c.b), i);
  if (is_above(u, c.x) || is_nan(u.high)) {
    c.x = u;
    turn = kTurnInput;
  }
  return u;
}

static __device__ Pair take_sigmoid(Course& c, float log_f, float i, int t) {
  if (log_f == -infinity())
    c.first = t, c.has_past = false, c.b = {0.0f, 0.0f};
  else
    c.b = added(c.b, log_f);
  c.x = minus(c.b);
  return added(minus(c.b), log_sigmoid(i));
}

// One chunk from m before it; writes its gates if there is a place for them.
static __device__ void walk(Course& c, const float* i, const float* f, int count, bool sigmoid, Gate* to) {
  const Pair before = c.x;
  for (int t = 0; t < count; ++t) {
    const float log_f = log_sigmoid(f[t]);
    int turn = kTurnPast;
    const Pair u = sigmoid ? take_sigmoid(c, log_f, i[t], t) : take_exponential(c, log_f, i[t], t, turn);
    c.m = c.is_full ? Pair{infinity(), 0.0f} : sum_of(c.b, c.x);
    if (!to) continue;
    const bool is_nothing = c.x.high == -infinity();
    const Pair past = sigmoid ? c.b : sum_of(before, minus(c.x));
    to[t] = {u.high, u.rest, is_nothing ? 0.0f : c.x.high, is_nothing ? 0.0f : c.x.rest,
             c.has_past && !is_nothing ? expf(past.high + past.rest) : 0.0f, sigmoid ? 1.0f : expf(-c.m.high),
             c.first, turn};
  }
}

// What a chunk without infinite gates does to m: m' = b + max(m, u).
struct Step {
  Pair b, u;
  int is_plain;
  Pair m;  // before the chunk
};

static __device__ Step step_of(const float* i, const float* f, int count) {
  Step step = {{0.0f, 0.0f}, {-infinity(), 0.0f}, 1, {0.0f, 0.0f}};
  for (int t = 0; t < count; ++t) {
    const float log_f = log_sigmoid(f[t]), input = i[t];
    if (!(log_f > -infinity()) || !(input < infinity())) step.is_plain = 0;
    step.b = added(step.b, log_f);
    const Pair u = added(minus(step.b), input);
    if (is_above(u, step.u)) step.u = u;
  }
  return step;
}

// The weight of a token, with u, in the row of `row`, which comes after it.
static __device__ float weight_of(const Gate& row, int s, float u, float u_rest) {
  return s < row.first ? 0.0f : expf((u - row.x) + (u_rest - row.x_rest));
}
