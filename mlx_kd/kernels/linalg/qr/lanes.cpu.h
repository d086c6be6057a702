// As many matrices as a vector has lanes, one in each.
#pragma once

// Elements [0, count) of matrices `first` and on, of which there are `there`, to x[element][lane].
static void gather(Floats* x, const Float* from, long first, long there, long count) {
  const Float* const lane0 = from + first * count;
  long i = 0;
  for (; i + kFloats <= count && there >= kFloats; i += kFloats) {
    Floats block[kFloats];
    for (int lane = 0; lane < kFloats; ++lane) block[lane] = load(lane0 + lane * count + i);
    transpose(block);
    for (int k = 0; k < kFloats; ++k) x[i + k] = block[k];
  }
  for (; i < count; ++i)
    for (int lane = 0; lane < kFloats; ++lane)
      x[i][lane] = lane < there ? lane0[lane * count + i] : 0;
}

static void scatter(Float* to, const Floats* x, long first, long there, long count) {
  Float* const lane0 = to + first * count;
  long i = 0;
  for (; i + kFloats <= count && there >= kFloats; i += kFloats) {
    Floats block[kFloats];
    for (int k = 0; k < kFloats; ++k) block[k] = x[i + k];
    transpose(block);
    for (int lane = 0; lane < kFloats; ++lane) store(lane0 + lane * count + i, block[lane]);
  }
  for (; i < count; ++i)
    for (int lane = 0; lane < kFloats && lane < there; ++lane) lane0[lane * count + i] = x[i][lane];
}

constexpr int kTogether = 4;  // columns that are summed together

// x (m, n) -= v factors, for the columns [c, n) below row c, where factor j is
// tau (x[c][j] + sum of v[i] x[i][j]); v[i] is v[i * step], and v[c] counts as 1.
KD_INLINE void reflect_lanes(Floats* x, long m, long n, long c, long first, const Floats* v,
                             long step, Floats tau) {
  for (long j = first; j < n; j += kTogether) {
    const int count = (int)least(kTogether, n - j);
    Floats sum[kTogether] = {};
    for (int k = 0; k < count; ++k) sum[k] = x[c * n + j + k];
    if (count == kTogether) {
      for (long i = c + 1; i < m; ++i)
        for (int k = 0; k < kTogether; ++k) sum[k] += v[i * step] * x[i * n + j + k];
      for (int k = 0; k < kTogether; ++k) x[c * n + j + k] -= sum[k] *= tau;
      for (long i = c + 1; i < m; ++i)
        for (int k = 0; k < kTogether; ++k) x[i * n + j + k] -= v[i * step] * sum[k];
      continue;
    }
    for (int k = 0; k < count; ++k) {
      for (long i = c + 1; i < m; ++i) sum[k] += v[i * step] * x[i * n + j + k];
      sum[k] *= tau;
      x[c * n + j + k] -= sum[k];
      for (long i = c + 1; i < m; ++i) x[i * n + j + k] -= v[i * step] * sum[k];
    }
  }
}

// The vector of column c, in its place below the diagonal, with R's element above it.
KD_INLINE Floats reflect_column(Floats* x, long m, long n, long c) {
  Floats tail = {};
  for (long i = c + 1; i < m; ++i) tail += x[i * n + c] * x[i * n + c];
  const Floats alpha = x[c * n + c], square = alpha * alpha + tail;
  const Ints some = (Ints)(tail > kNothing);
  Floats norm;
  for (int lane = 0; lane < kFloats; ++lane) norm[lane] = square_root(square[lane]);
  const Floats beta = chosen((Ints)(alpha < 0), norm, -norm);
  const Floats one = Floats{} + 1;
  const Floats inverse = (Floats)((Ints)(1 / chosen(some, alpha - beta, one)) & some);
  const Floats tau = (Floats)((Ints)((beta - alpha) / chosen(some, beta, one)) & some);
  x[c * n + c] = chosen(some, beta, alpha);
  for (long i = c + 1; i < m; ++i) x[i * n + c] *= inverse;
  return tau;
}

// Scales of the lanes and their inverses; the mask of those that are spoilt.
KD_INLINE Ints scale_lanes(Floats* x, long count, Floats* inverse) {
  Floats most = {}, spoilt = {};
  for (long i = 0; i < count; ++i) {
    const Floats size = absolute(x[i]);
    most = size > most ? size : most;
    spoilt += x[i] * 0.0f;
  }
  const Ints bad = (Ints)(spoilt != 0), exponent = (Ints)most >> kMantissa;
  const Ints least = Ints{} + 4, most_of_all = kOnes - least;
  const Ints within = (Ints)(exponent < least         ? least
                             : exponent > most_of_all ? most_of_all
                                                      : exponent);
  const Floats scale = (Floats)((kOnes - within) << kMantissa);
  *inverse = (Floats)(within << kMantissa);
  for (long i = 0; i < count; ++i) x[i] = (Floats)((Ints)(x[i] * scale) & ~bad);
  return bad;
}

// Units are groups of matrices; the stage is how many a task has.
extern "C" void mlx_kd_qr_lanes(const kd_arguments* a, long begin, long end) {
  const long m = a->dims[KD_DIM_m], n = a->dims[KD_DIM_n], wide = q_columns(a), tall = r_rows(a);
  const long steps = least(m, n), batch = a->dims[KD_DIM_batch];
  const Floats quiet = Floats{} + __builtin_nanf("");
  Floats* const x =
      (Floats*)a->scratch[0] + begin / a->stage * (m * n + m * wide + tall * n + steps);
  Floats *const q = x + m * n, *const r = q + m * wide, *const tau = r + tall * n;
  for (long group = begin; group < end; ++group) {
    const long first = group * kFloats, there = least(kFloats, batch - first);
    gather(x, (const Float*)a->inputs[0], first, there, m * n);
    Floats inverse;
    const Ints bad = scale_lanes(x, m * n, &inverse);
    for (long c = 0; c < steps; ++c) {
      tau[c] = reflect_column(x, m, n, c);
      reflect_lanes(x, m, n, c, c + 1, x + c, n, tau[c]);
    }
    for (long i = 0; i < tall; ++i)
      for (long j = 0; j < n; ++j)
        r[i * n + j] = chosen(bad, quiet, j < i ? Floats{} : x[i * n + j] * inverse);
    scatter((Float*)a->outputs[1], r, first, there, tall * n);
    for (int lane = 0; lane < there; ++lane) {
      const Float* const from = (const Float*)a->inputs[0] + (first + lane) * m * n;
      ((int*)a->outputs[2])[first + lane] = bad[lane] ? (int)first_spoilt(from, m, n) : 0;
    }
    if (a->dims[KD_DIM_mode] == kOnlyR) continue;
    for (long i = 0; i < m; ++i)
      for (long j = 0; j < wide; ++j) q[i * wide + j] = Floats{} + (i == j ? 1.0f : 0.0f);
    for (long c = steps - 1; c >= 0; --c) reflect_lanes(q, m, wide, c, c, x + c, n, tau[c]);
    for (long i = 0; i < m * wide; ++i) q[i] = chosen(bad, quiet, q[i]);
    scatter((Float*)a->outputs[0], q, first, there, m * wide);
  }
}
