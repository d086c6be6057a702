// Reflections of panels, and what carries a matrix in and out; qr.cpu.cpp says how.
#pragma once

enum Mode { kReduced, kComplete, kOnlyR };

constexpr bool kDouble = sizeof(Float) == 8;
constexpr int kMantissa = kDouble ? 52 : 23;  // bits
constexpr Int kOnes = kDouble ? 2046 : 254;   // what the exponents of x and 1 / x add up to
// A sum of squares that is 0, where the largest element is 1.
constexpr Float kNothing = Float(kDouble ? 1e-60 : 1e-26);
constexpr long kWide = TILE * kFloats;

// One matrix in work. Panel p has its vectors at v + p * rows * kPanel (row 0 of the matrix first,
// of account from row p * kPanel on) and its S at s + p * kPanel * kPanel.
struct Work {
  long m, n, rows, stride, panels;
  Float *w, *v, *s;  // w: the matrix, then Q
};

static long q_columns(const kd_arguments* a) {
  const long m = a->dims[KD_DIM_m], n = a->dims[KD_DIM_n];
  return a->dims[KD_DIM_mode] == kComplete ? m : least(m, n);
}
static long r_rows(const kd_arguments* a) {
  return q_columns(a);
}

// Of m rows and n columns, and a Q of `wide` columns; the host counts the floats too: of w, and of
// v with s.
static long stride_for(long n, long wide) {
  return stride_of(padded(n > wide ? n : wide));
}
static long w_floats(long m, long n, long wide) {
  return padded(m) * stride_for(n, wide);
}
static long v_floats(long m, long n) {
  return padded(least(m, n)) * (padded(m) + kPanel);
}
static Work work_of(Float* matrix, Float* of_panels, long m, long n, long wide) {
  Work w;
  w.m = m, w.n = n, w.w = matrix, w.v = of_panels;
  w.rows = padded(m), w.stride = stride_for(n, wide);
  w.panels = padded(least(m, n)) / kPanel;
  w.s = w.v + w.panels * w.rows * kPanel;
  return w;
}

KD_INLINE Float* vectors(const Work& w, long p) {
  return w.v + (p * w.rows + p * kPanel) * kPanel;  // from row p * kPanel on
}

// ---- a panel

// Reflects the columns of v (rows, kPanel), of which only `steps` are to be. R's part is then on
// and above the diagonal of the first kPanel rows, the vectors below it.
static void factor_panel(Float* v, long rows, Float* tau) {
  for (int c = 0; c < kPanel; ++c) {
    Floats sum[kParts] = {}, other[kParts] = {};
    long i = c + 1;
    for (; i + 1 < rows; i += 2) {
      const Float* const x = v + i * kPanel;
      for (int p = 0; p < kParts; ++p) {
        sum[p] += x[c] * load(x + p * kFloats);
        other[p] += x[kPanel + c] * load(x + kPanel + p * kFloats);
      }
    }
    for (; i < rows; ++i)
      for (int p = 0; p < kParts; ++p)
        sum[p] += v[i * kPanel + c] * load(v + i * kPanel + p * kFloats);
    Float sums[kPanel];
    for (int p = 0; p < kParts; ++p) store(sums + p * kFloats, sum[p] + other[p]);
    Float* const diagonal = v + c * kPanel;
    const Float alpha = diagonal[c], tail = sums[c];
    if (!(tail > kNothing)) {
      tau[c] = 0;
      for (i = c + 1; i < rows; ++i) v[i * kPanel + c] = 0;
      continue;
    }
    const Float norm = square_root(alpha * alpha + tail), beta = alpha < 0 ? norm : -norm;
    const Float inverse = 1 / (alpha - beta);
    tau[c] = (beta - alpha) / beta;
    Floats factor[kParts];
    Ints at[kParts];
    for (int p = 0; p < kParts; ++p) {
      at[p] = lanes_at(p, c);
      const Floats row = load(diagonal + p * kFloats);
      const Floats f = tau[c] * (row + load(sums + p * kFloats) * inverse);
      factor[p] = (Floats)((Ints)f & lanes_after(p, c));
      store(diagonal + p * kFloats, row - factor[p]);
    }
    diagonal[c] = beta;
    for (i = c + 1; i < rows; ++i) {
      Float* const x = v + i * kPanel;
      const Floats scaled = x[c] * inverse + Floats{};
      for (int p = 0; p < kParts; ++p) {
        const Floats row = load(x + p * kFloats) - scaled * factor[p];
        store(x + p * kFloats, chosen(at[p], scaled, row));
      }
    }
  }
}

// S of the vectors v, whose first rows have their unit diagonal.
static void form_s(const Float* v, long rows, const Float* tau, Float* s) {
  Float g[kPanel * kPanel];
  for (int j = 0; j < kPanel; j += kFloats)
    product<1, false>(g + j, kPanel, v, 1, kPanel, v + j, kPanel, rows, kPanel);
  for (int c = 0; c < kPanel; ++c) {
    Floats sum[kParts] = {}, other[kParts] = {};
    int k = 0;
    for (; k + 1 < c; k += 2)
      for (int p = 0; p < kParts; ++p) {
        sum[p] += g[c * kPanel + k] * load(s + k * kPanel + p * kFloats);
        other[p] += g[c * kPanel + k + 1] * load(s + (k + 1) * kPanel + p * kFloats);
      }
    for (; k < c; ++k)
      for (int p = 0; p < kParts; ++p)
        sum[p] += g[c * kPanel + k] * load(s + k * kPanel + p * kFloats);
    for (int p = 0; p < kParts; ++p)
      store(s + c * kPanel + p * kFloats, -tau[c] * (sum[p] + other[p]));
    s[c * kPanel + c] = tau[c];
  }
}

// Panel p of the matrix: its columns of w keep R's part.
static void reflect(const Work& w, long p) {
  const long from = p * kPanel, rows = w.rows - from;
  Float *const v = vectors(w, p), *const s = w.s + p * kPanel * kPanel;
  Float* const matrix = w.w + from * w.stride + from;
  for (long i = 0; i < rows; ++i)
    for (int part = 0; part < kParts; ++part)
      store(v + i * kPanel + part * kFloats, load(matrix + i * w.stride + part * kFloats));
  Float tau[kPanel];
  factor_panel(v, rows, tau);
  for (int i = 0; i < kPanel; ++i) {
    for (int part = 0; part < kParts; ++part)
      store(matrix + i * w.stride + part * kFloats, load(v + i * kPanel + part * kFloats));
    for (int j = i; j < kPanel; ++j) v[i * kPanel + j] = i == j;
  }
  form_s(v, rows, tau, s);
}

// ---- I - V S^T V^T or I - V S V^T on kVectors vectors of columns

// y = op(S) x, where x is (kPanel, kVectors).
template <int kVectors, bool kTransposed>
KD_INLINE void times_s(Float* y, const Float* s, const Float* x) {
  constexpr long kLine = kVectors * kFloats;
  product<kVectors, false>(y, kLine, s, kTransposed ? 1 : kPanel, kTransposed ? kPanel : 1, x,
                           kLine, kPanel, kPanel);
}

template <int kVectors, bool kTransposed>
KD_INLINE void apply(const Work& w, long p, Float* columns) {
  constexpr long kLine = kVectors * kFloats;
  const long from = p * kPanel, rows = w.rows - from;
  const Float *const v = vectors(w, p), *const s = w.s + p * kPanel * kPanel;
  Float* const to = columns + from * w.stride;
  Float x[kPanel * kLine], y[kPanel * kLine];
  product<kVectors, false>(x, kLine, v, 1, kPanel, to, w.stride, rows, kPanel);
  times_s<kVectors, kTransposed>(y, s, x);
  product<kVectors, true>(to, w.stride, v, kPanel, 1, y, kLine, kPanel, rows);
}

// Panels [from, to) on the columns [begin, end) of the matrix.
static void update(const Work& w, long from, long to, long begin, long end) {
  long j = begin;
  for (; j + kWide <= end; j += kWide)
    for (long p = from; p < to; ++p) apply<TILE, false>(w, p, w.w + j);
  for (; j < end; j += kFloats)
    for (long p = from; p < to; ++p) apply<1, false>(w, p, w.w + j);
}

// Panels [from, to) in the columns [begin, end): reflected, and what follows of them updated.
static void reflect_block(const Work& w, long from, long to) {
  for (long p = from; p < to; ++p) {
    reflect(w, p);
    update(w, p, p + 1, (p + 1) * kPanel, to * kPanel);
  }
}

// ---- Q: columns [j, j + kVectors) of H1 H2 ... times what w holds there

// The columns begin as those of the identity.
template <int kVectors>
KD_INLINE void form_q(const Work& w, long j) {
  constexpr long kLine = kVectors * kFloats;
  for (long i = 0; i < w.rows; ++i)
    for (int v = 0; v < kVectors; ++v) store(w.w + i * w.stride + j + v * kFloats, Floats{});
  for (long c = j; c < j + kLine && c < w.rows; ++c) w.w[c * w.stride + c] = 1;
  // Panels below the columns' ones leave them as they are.
  for (long p = least(w.panels - 1, (j + kLine - 1) / kPanel); p >= 0; --p)
    apply<kVectors, true>(w, p, w.w + j);
}

static void form_q_columns(const Work& w, long begin, long end) {
  long j = begin;
  for (; j + kWide <= end; j += kWide) form_q<TILE>(w, j);
  for (; j < end; j += kFloats) form_q<1>(w, j);
}

// ---- in and out

// A power of two that brings the largest element near 1, and its inverse; 0 for a spoilt matrix.
static Float scale_of(const Float* a, long count, Float* inverse) {
  const Float most = largest(a, count);
  *inverse = 1;
  if (!(most - most == 0)) return 0;
  constexpr Float kLarge = Float(kDouble ? 0x1p800 : 0x1p100), kSmall = 1 / kLarge;
  const Int exponent = __builtin_bit_cast(Int, most) >> kMantissa;
  if (exponent < 4 || exponent > kOnes - 4) {  // near the ends of the range: half of the way
    const bool small = exponent < 4;
    *inverse = small ? kSmall : kLarge;
    return most == 0 ? 1 : small ? kLarge : kSmall;
  }
  *inverse = __builtin_bit_cast(Float, exponent << kMantissa);
  return __builtin_bit_cast(Float, (kOnes - exponent) << kMantissa);
}

// Rows [begin, end) of w from a, of which there are m; the padding is 0.
static void load_rows(const Work& w, const Float* a, Float scale, long begin, long end) {
  for (long i = begin; i < end; ++i) {
    Float* const to = w.w + i * w.stride;
    long j = 0;
    if (i < w.m) {
      for (; j + kFloats <= w.n; j += kFloats) store(to + j, load(a + i * w.n + j) * scale);
      for (; j < w.n; ++j) to[j] = a[i * w.n + j] * scale;
    }
    for (; j < padded(w.n); ++j) to[j] = 0;
  }
}

static void store_r(const Work& w, Float* r, Float scale, long begin, long end) {
  for (long i = begin; i < end; ++i) {
    const Float* const from = w.w + i * w.stride;
    Float* const to = r + i * w.n;
    const long first = least(i, w.n);
    long j = 0;
    for (; j < first; ++j) to[j] = 0;
    const bool is_there = i < w.panels * kPanel;
    for (; j < w.n; ++j) to[j] = is_there ? from[j] * scale : 0;
  }
}

// Columns [first, last) of the rows [begin, end) of Q.
static void store_q(const Work& w, Float* q, long columns, long first, long begin, long end,
                    long last = -1) {
  if (last < 0) last = columns;
  for (long i = begin; i < end; ++i) {
    const Float* const from = w.w + i * w.stride;
    Float* const to = q + i * columns;
    long j = first;
    for (; j + kFloats <= last; j += kFloats) store(to + j, load(from + j));
    for (; j < last; ++j) to[j] = from[j];
  }
}

// The first column, from 1, with a NaN or an infinity.
static long first_spoilt(const Float* a, long m, long n) {
  for (long j = 0; j < n; ++j)
    for (long i = 0; i < m; ++i)
      if (!(a[i * n + j] - a[i * n + j] == 0)) return j + 1;
  return 0;
}

static void store_nan(const kd_arguments* a, long m) {
  const long wide = q_columns(a), n = a->dims[KD_DIM_n], height = a->dims[KD_DIM_m];
  if (a->dims[KD_DIM_mode] != kOnlyR)
    fill((Float*)a->outputs[0] + m * height * wide, height * wide, __builtin_nanf(""));
  fill((Float*)a->outputs[1] + m * r_rows(a) * n, r_rows(a) * n, __builtin_nanf(""));
}

struct Arrays {
  const Float* a;
  Float *q, *r;
  int* info;
};
static Arrays arrays_of(const kd_arguments* a, long m) {
  const long height = a->dims[KD_DIM_m], n = a->dims[KD_DIM_n], wide = q_columns(a);
  return {(const Float*)a->inputs[0] + m * height * n, (Float*)a->outputs[0] + m * height * wide,
          (Float*)a->outputs[1] + m * r_rows(a) * n, (int*)a->outputs[2] + m};
}

static void reflect_all(const Work& w) {
  const long block = BLOCK / kPanel;
  for (long p = 0; p < w.panels; p += block) {
    const long next = least(p + block, w.panels);
    reflect_block(w, p, next);
    update(w, p, next, next * kPanel, padded(w.n));
  }
}
