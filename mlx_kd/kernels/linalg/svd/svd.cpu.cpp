// svd: A = U diag(s) V^T of each matrix of a batch, s >= 0 and descending.
//
// input a (batch, m, n), k = min(m, n); outputs u (batch, m, K), s (batch, k), vt (batch, K', n),
// info (batch). K and K' are m and n where `form` is 0, k where it is 1, and 2 gives s alone. The
// stage is how many matrices a task has; it has a scratch of its own.
//
// Let X be A, or A^T where m < n: k columns of `length` elements. X is made bidiagonal, and the
// squares of its singular values are found, of kLanes matrices together (bidiagonal.cpu.h): with
// form 2 that is all (in float64 the values themselves are found, of whose digits squares would
// keep half). Else their vectors V make the columns of G = X V nearly orthogonal, and one-sided
// Jacobi finishes: pairs of columns that are not orthogonal to working precision are rotated, in G
// and in V, until there are none. So small singular values are as exact as those of Jacobi's
// method, which begins with almost nothing to do. Columns are rows in memory, the dot products of a
// block of them with another one are computed where both are in the first cache.
#ifndef KD_DTYPE
#define KD_DTYPE 0  // 0 float32, 1 float16, 2 bfloat16, 8 float64
#endif
#ifndef VEC
#define VEC 16  // bytes of a vector
#endif
#ifndef SWEEPS
#define SWEEPS 8  // whose rotations are kept, then applied
#endif
#ifndef WIDE
#define WIDE 4  // vectors of columns that are worked on together
#endif
#ifndef BLOCK
#define BLOCK 16  // columns that are paired with as many others at a time
#endif

#include "../../common/kd_arguments.h"

#ifndef KD_DIM_n
#define KD_DIM_batch 0
#define KD_DIM_m 1
#define KD_DIM_n 2
#define KD_DIM_form 3
#endif

#include "../bidiagonal.cpu.h"

constexpr int kMostSweeps = 30;
constexpr bool kDouble = KD_DTYPE == 8;
// The square of a column that is 0, beside elements of 1.
constexpr Float kZero = Float(kDouble ? 1e-64 : 1e-32);

// One task's memory: x is X by rows, g G^T and then the rows of the longer factor.
struct Svd {
  long m, n, k, length, form;
  long stride;  // of the rows of x: k elements
  long line;    // of the rows of g and xt: `length` elements
  Float *x, *xt, *g, *squares, *drift, *settled;
  Eigen eigen;
  Bidiagonal bidiagonal;
};

static Svd svd_at(const kd_arguments* a, Float* at) {
  Svd s;
  s.m = a->dims[KD_DIM_m], s.n = a->dims[KD_DIM_n], s.form = a->dims[KD_DIM_form];
  s.k = s.m < s.n ? s.m : s.n, s.length = s.m < s.n ? s.n : s.m;
  s.stride = stride_of(s.k), s.line = stride_of(s.length);
  const long rows = s.form == 0 ? s.length : s.k;
  s.eigen = eigen_at(at, s.k, 0x1p-52);
  at += eigen_floats(s.k);
  s.x = at, at += s.length * s.stride;
  s.xt = at, at += s.k * s.line;
  s.g = at, at += rows * s.line;
  s.squares = at, at += padded(s.length);
  s.bidiagonal.length = s.length, s.bidiagonal.k = s.k, s.bidiagonal.stride = s.stride;
  s.bidiagonal.x = s.x, s.bidiagonal.left = at;
  s.bidiagonal.last_left = at + padded(s.length), s.bidiagonal.side = at + 2 * padded(s.length);
  at += 3 * padded(s.length);
  s.bidiagonal.low = at, s.bidiagonal.last_low = at + padded(s.k);
  s.drift = at + 2 * padded(s.k), s.settled = at + 3 * padded(s.k);
  return s;
}

// The same is computed by the host.
KD_INLINE long svd_floats(const Svd& s) {
  const long rows = s.form == 0 ? s.length : s.k;
  return eigen_floats(s.k) + s.length * s.stride + s.k * s.line + rows * s.line +
         4 * padded(s.length) + 4 * padded(s.k);
}

// X and X^T, scaled so that the largest element is in [1, 2); the scale, 0 if an element is not
// finite: then both are 0.
static Float load_both(const Svd& s, const T* a) {
  Float largest = 0, spoilt = 0;
  for (long e = 0; e < s.m * s.n; ++e) {
    const Float value = widen(a[e]), size = magnitude(value);
    largest = size > largest ? size : largest;
    spoilt += value * 0;
  }
  const bool good = spoilt == 0;
  const Float scale = power_near(largest), factor = 1 / scale;
  Float* const to = s.m < s.n ? s.xt : s.x;
  const long stride = s.m < s.n ? s.line : s.stride;
  for (long i = 0; i < s.m; ++i) {
    for (long j = s.n; j < padded(s.n); ++j) to[i * stride + j] = 0;
    for (long j = 0; j < s.n; ++j) to[i * stride + j] = good ? widen(a[i * s.n + j]) * factor : 0;
  }
  if (s.m < s.n)
    transpose(s.xt, s.line, s.k, s.length, s.x, s.stride);
  else
    transpose(s.x, s.stride, s.length, s.k, s.xt, s.line);
  return good ? scale : 0;
}

// ---- one-sided Jacobi

struct Turn {
  Float c, s, t;
};

KD_INLINE Turn turn_of(Float square_p, Float square_q, Float product) {
  const Float zeta = (square_q - square_p) / (2 * product), size = magnitude(zeta);
  const Float t = size > Float(kDouble ? 1e9 : 1e5) ? Float(0.5) / size
                                                    : 1 / (size + square_root(1 + zeta * zeta));
  const Float c = 1 / square_root(1 + t * t), signed_t = zeta < 0 ? -t : t;
  return {c, c * signed_t, signed_t};
}

KD_INLINE void turn_rows(Float* p, Float* q, Turn turn, long columns) {
  for (long j = 0; j < columns; j += kFloats) {
    const Floats x = load(p + j), y = load(q + j);
    store(p + j, turn.c * x - turn.s * y);
    store(q + j, turn.s * x + turn.c * y);
  }
}

// What a turn by t does to the products of a column with third ones, beside its length, is in the
// worst case this part of the largest cosine between any two.
KD_INLINE Float drift_of(Float t, Float own_square, Float other_square) {
  return magnitude(t) * square_root(other_square / own_square);
}

// Column p with q, of G and of V (z); whether they were not orthogonal.
KD_INLINE bool make_orthogonal(const Svd& s, Float* z, long p, long q, Float product,
                               double limit) {
  Float* const squares = s.squares;
  if (!(double(product) * product > limit * squares[p] * squares[q])) return false;
  if (!(squares[p] > kZero && squares[q] > kZero)) return false;
  const Turn turn = turn_of(squares[p], squares[q], product);
  s.drift[p] += drift_of(turn.t, squares[p], squares[q]);
  s.drift[q] += drift_of(turn.t, squares[q], squares[p]);
  turn_rows(s.g + p * s.line, s.g + q * s.line, turn, padded(s.length));
  if (s.form < 2) turn_rows(z + p * s.eigen.stride, z + q * s.eigen.stride, turn, padded(s.k));
  squares[p] -= turn.t * product;
  squares[q] += turn.t * product;
  return true;
}

KD_INLINE bool is_settled(const Svd& s, long p, long q) {
  return s.settled[p] && s.settled[q] && s.drift[p] == 0 && s.drift[q] == 0;
}

// Columns [i, i + BLOCK) with [j, j + BLOCK), or with each other where i is j; the square of the
// largest cosine between those that were turned.
static double pair_blocks(const Svd& s, Float* z, long i, long j, double limit) {
  const long i_end = i + BLOCK < s.k ? i + BLOCK : s.k, j_end = j + BLOCK < s.k ? j + BLOCK : s.k;
  const long columns = padded(s.length);
  const auto product = [&](long p, long q) {
    return dot(s.g + p * s.line, s.g + q * s.line, 0, columns);
  };
  double largest = 0;
  for (long r = i == j; r < BLOCK; ++r) {
    Float products[BLOCK];
    const auto partner = [&](long p) { return i == j ? p + r : j + (p - i + r) % BLOCK; };
    for (long p = i; p < i_end; ++p) {
      const long q = partner(p);
      if (q < j_end && !is_settled(s, p, q)) products[p - i] = product(p, q);
    }
    for (long p = i; p < i_end; ++p) {
      const long q = partner(p);
      if (q >= j_end || is_settled(s, p, q)) continue;
      // Within a block a pair shares columns with others of its round.
      const Float found = i == j && largest > 0 ? product(p, q) : products[p - i];
      const double size = double(s.squares[p]) * s.squares[q];
      if (!make_orthogonal(s, z, p, q, found, limit)) continue;
      const double square = double(found) * found / size;
      largest = square > largest ? square : largest;
    }
  }
  return largest;
}

// Whether all columns of G came to be orthogonal. After a sweep only those are looked at again that
// its turns may have moved by more than what is tolerated.
static bool finish_by_jacobi(const Svd& s, Float* z) {
  const double limit =
      (kDouble ? 0x1p-100 : 0x1p-42) * double(s.length > 256 ? s.length : 256) / 256;
  for (long p = 0; p < s.k; ++p) s.settled[p] = 0;
  for (int sweep = 0; sweep < kMostSweeps; ++sweep) {
    for (long p = 0; p < s.k; ++p) {
      s.squares[p] = dot(s.g + p * s.line, s.g + p * s.line, 0, padded(s.length));
      s.drift[p] = 0;
    }
    double largest = 0;
    for (long i = 0; i < s.k; i += BLOCK)
      for (long j = i; j < s.k; j += BLOCK) {
        const double found = pair_blocks(s, z, i, j, limit);
        largest = found > largest ? found : largest;
      }
    bool all = true;
    for (long p = 0; p < s.k; ++p) {
      s.settled[p] = 16 * double(s.drift[p]) * s.drift[p] * largest <= limit;
      all &= s.settled[p] != 0;
    }
    if (all) return true;
  }
  return false;
}

// ---- results

// Rows [have, want) of g and those of the first `have` that are 0, so that all rows are
// orthonormal: unit vectors less their parts along the rows there are, three times.
static void complete_rows(const Svd& s, long have, long want, Float* part) {
  const long columns = padded(s.length);
  for (long j = 0; j < columns; ++j) part[j] = j < s.length ? 1 : 2;
  for (long p = 0; p < have; ++p)
    for (long j = 0; j < s.length; ++j) part[j] -= s.g[p * s.line + j] * s.g[p * s.line + j];
  for (long p = 0; p < want; ++p) {
    Float* const row = s.g + p * s.line;
    if (p < have && dot(row, row, 0, columns) > Float(0.5)) continue;
    long most = 0;
    for (long j = 1; j < s.length; ++j) most = part[j] > part[most] ? j : most;
    for (long j = 0; j < columns; ++j) row[j] = j == most;
    for (int pass = 0; pass < 3; ++pass) {
      for (long q = 0; q < (p > have ? p : have); ++q)
        if (q != p)
          add_scaled(row, -dot(row, s.g + q * s.line, 0, columns), s.g + q * s.line, 0, columns);
      scale_row(row, 1 / square_root(dot(row, row, 0, columns)), columns);
    }
    for (long j = 0; j < s.length; ++j) part[j] -= row[j] * row[j];
  }
}

// Element (i, j) of `to` from element i of row order[j].
static void store_columns(T* to, long count, long columns, const Float* rows, long stride,
                          const int* order, long ordered) {
  for (long i0 = 0; i0 < count; i0 += kLine)
    for (long j = 0; j < columns; ++j) {
      const Float* const row = rows + (j < ordered ? order[j] : j) * stride;
      const long end = i0 + kLine < count ? i0 + kLine : count;
      for (long i = i0; i < end; ++i) to[i * columns + j] = narrow(row[i]);
    }
}

static void store_rows(T* to, long count, long columns, const Float* rows, long stride,
                       const int* order, long ordered) {
  for (long i = 0; i < count; ++i) {
    const Float* const row = rows + (i < ordered ? order[i] : i) * stride;
    for (long j = 0; j < columns; ++j) to[i * columns + j] = narrow(row[j]);
  }
}

// Singular values, and the rows of g as those of the longer factor; the places of the values in
// descending order.
static void make_values(const Svd& s, Float scale, T* values, int* order) {
  const long columns = padded(s.length);
  for (long p = 0; p < s.k; ++p) {
    Float* const row = s.g + p * s.line;
    const Float square = dot(row, row, 0, columns);
    const bool zero = !(square > kZero);
    s.squares[p] = zero ? 0 : square_root(square);
    if (s.form < 2) scale_row(row, zero ? 0 : 1 / s.squares[p], columns);
    long at = p;
    for (; at > 0 && s.squares[order[at - 1]] < s.squares[p]; --at) order[at] = order[at - 1];
    order[at] = int(p);
  }
  for (long p = 0; p < s.k; ++p) values[p] = narrow(s.squares[order[p]] * scale);
}

// Of form 2, the values in lane `lane` of x, as values_of says.
static void store_values(const kd_arguments* a, const Svd& s, const Eigen& x, int lane, long at,
                         Float scale, bool failed) {
  T* const values = (T*)a->outputs[1] + at * s.k;
  const int info = scale == 0 ? 1 : failed ? 2 : 0;
  ((int*)a->outputs[3])[at] = info;
  if (info) return store_nan(values, s.k);
  int* const order = (int*)x.w;
  sort_values(x, lane, order);
  for (long p = 0; p < s.k; ++p) {
    const double found = x.t.d[order[x.n - 1 - p] * kLanes + lane], value = found > 0 ? found : 0;
    values[p] = narrow(Float(kDouble ? value : __builtin_sqrt(value)) * scale);
  }
}

static void store_result(const kd_arguments* a, const Svd& s, Float* z, long at, Float scale,
                         int info) {
  const long wide = s.form == 0 ? s.m : s.k, high = s.form == 0 ? s.n : s.k;
  T* const u = (T*)a->outputs[0] + at * s.m * wide;
  T* const values = (T*)a->outputs[1] + at * s.k;
  T* const vt = (T*)a->outputs[2] + at * high * s.n;
  ((int*)a->outputs[3])[at] = info;
  if (info) {
    store_nan(values, s.k);
    if (s.form < 2) store_nan(u, s.m * wide), store_nan(vt, high * s.n);
    return;
  }
  int* const order = (int*)s.eigen.w;
  make_values(s, scale, values, order);
  if (s.form == 2) return;
  const long rows = s.form == 0 ? s.length : s.k;
  if (rows > s.k || s.squares[order[s.k - 1]] == 0) complete_rows(s, s.k, rows, s.squares);
  if (s.m >= s.n) {
    store_columns(u, s.m, wide, s.g, s.line, order, s.k);
    store_rows(vt, s.k, s.n, z, s.eigen.stride, order, s.k);
  } else {
    store_columns(u, s.m, s.m, z, s.eigen.stride, order, s.k);
    store_rows(vt, high, s.n, s.g, s.line, order, s.k);
  }
}

// What is solved: the squares of singular values, or of form 2 in float64 the values and their
// negatives, in place of vectors.
static Eigen values_of(const Svd& s) {
  Eigen x = s.eigen;
  if (!kDouble || s.form < 2) return x;
  x.n = 2 * s.k;
  x.t.d = (double*)x.z[0];
  x.t.e = x.t.d + kLanes * (x.n + 1);
  x.t.least = 0x1p-54;  // beside the largest element, in [1, 2)
  return x;
}

extern "C" void mlx_kd_svd(const kd_arguments* a, long begin, long end) {
  Svd s = svd_at(a, nullptr);
  s = svd_at(a, (Float*)a->scratch[0] + begin / a->stage * svd_floats(s));
  const Eigen x = values_of(s);
  const auto input = [&](long at) { return (const T*)a->inputs[0] + at * s.m * s.n; };
  for (long at = begin; at < end; at += kLanes) {
    const int lanes = int(end - at < kLanes ? end - at : kLanes);
    Float scales[kLanes];
    for (int l = 0; l < lanes; ++l) {
      scales[l] = load_both(s, input(at + l));
      make_bidiagonal(s.bidiagonal, s.eigen, x.t, x.n > s.k, l);
      if (s.form < 2) make_vectors(x, x.z[l]);
    }
    const unsigned failed = solve_tridiagonal(x, lanes, s.form < 2);
    for (int l = 0; l < lanes; ++l) {
      if (s.form == 2) {
        store_values(a, s, x, l, at + l, scales[l], failed >> l & 1);
        continue;
      }
      const Float scale = load_both(s, input(at + l));
      product(s.g, s.line, x.z[l], x.stride, 1, s.xt, s.line, s.k, s.k, padded(s.length));
      const bool good = scale != 0 && !(failed >> l & 1) && finish_by_jacobi(s, x.z[l]);
      store_result(a, s, x.z[l], at + l, scale, scale == 0 ? 1 : good ? 0 : 2);
    }
  }
}
