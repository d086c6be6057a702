// Eigenvalues and vectors of symmetric matrices, a few at a time.
//
// Each matrix becomes tridiagonal by reflections in float: a pass over its rows applies one
// reflection and multiplies by the next. The tridiagonal ones are solved together, a matrix a lane
// of a vector of doubles, by the implicit QL method: what one matrix would wait for, a root and a
// quotient a rotation, is done for all of them at once. The rotations of kSweeps sweeps are kept
// and then applied to the rows of Z^T, a part of the columns at a time, which stays in the first
// cache.
//
//   SWEEPS  whose rotations are kept           WIDE  vectors of columns that are worked on together
#ifndef SWEEPS
#define SWEEPS 8
#endif
#ifndef WIDE
#define WIDE 4
#endif
#pragma once
#include "rows.cpu.h"

constexpr int kLanes = VEC / 8;
constexpr int kSweeps = SWEEPS;
typedef double Doubles __attribute__((vector_size(VEC)));
typedef long long Longs __attribute__((vector_size(VEC)));

// Of the tridiagonal matrices, element i of lane l at [i * kLanes + l]; e[i] joins i and i + 1.
struct Tridiagonal {
  double *d, *e;
  double small;  // beside the elements of the diagonal around it, what is as good as 0
  double least;  // and whatever is there
};

// A rotation of rows i and i + 1 in each lane.
struct Rotations {
  Float c[kLanes], s[kLanes];
};

// What a task keeps: z holds the rows of Z^T of each lane.
struct Eigen {
  long n, stride;
  Float* a;  // one matrix, then its reflections
  Float* z[kLanes];
  Float *v, *w;  // rows
  Tridiagonal t;
  Rotations* kept;  // n for each of kSweeps sweeps
};

// Floats that eigen_at lays out; the host computes the same.
KD_INLINE long eigen_floats(long n) {
  const long stride = stride_of(n);
  return (1 + kLanes) * n * stride + 2 * stride + 4 * kLanes * (n + 1) + kSweeps * 2 * kLanes * n;
}

[[maybe_unused]] static Eigen eigen_at(Float* at, long n, double small) {
  Eigen x;
  x.n = n;
  x.stride = stride_of(n);
  x.a = at;
  at += n * x.stride;
  for (int l = 0; l < kLanes; ++l, at += n * x.stride) x.z[l] = at;
  x.v = at;
  x.w = at + x.stride;
  at += 2 * x.stride;
  x.t.small = small;
  x.t.least = 1e-36;
  x.t.d = (double*)at;
  x.t.e = x.t.d + kLanes * (n + 1);
  x.kept = (Rotations*)(at + 4 * kLanes * (n + 1));
  return x;
}

// ---- to tridiagonal form

// Columns [j, j + kVectors vectors) of the rows [from, n): less the products of the last reflection
// (if kUpdate), then their sum with the factors of the next one.
template <bool kUpdate, int kVectors>
KD_INLINE void pass_columns(const Eigen& x, const Float* last, const Float* w, const Float* next,
                            Float* sums, long from, long j) {
  Floats sum[kVectors] = {}, of_last[kVectors], of_w[kVectors];
  for (int v = 0; v < kVectors && kUpdate; ++v) {
    of_last[v] = load(last + j + v * kFloats);
    of_w[v] = load(w + j + v * kFloats);
  }
  for (long i = from; i < x.n; ++i)
    for (int v = 0; v < kVectors; ++v) {
      Float* const at = x.a + i * x.stride + j + v * kFloats;
      Floats row = load(at);
      if (kUpdate) {
        row -= last[i] * of_w[v] + w[i] * of_last[v];
        store(at, row);
      }
      sum[v] += next[i] * row;
    }
  for (int v = 0; v < kVectors; ++v) store(sums + j + v * kFloats, sum[v]);
}

template <bool kUpdate>
[[maybe_unused]] static void pass(const Eigen& x, const Float* last, const Float* next, Float* sums,
                                  long from) {
  const long columns = padded(x.n);
  constexpr int kVectors = WIDE;
  long j = from / kLine * kLine;
  for (; j + kVectors * kFloats <= columns; j += kVectors * kFloats)
    pass_columns<kUpdate, kVectors>(x, last, x.w, next, sums, from, j);
  for (; j < columns; j += kFloats) pass_columns<kUpdate, 1>(x, last, x.w, next, sums, from, j);
}

// Makes of row k the v of I - v v^T, which turns the row's elements from k + 1 on into one,
// returned.
[[maybe_unused]] static Float reflection(Float* row, long k, long n) {
  const long columns = padded(n);
  const Float first = row[k + 1];
  for (long j = k / kLine * kLine; j <= k; ++j) row[j] = 0;
  row[k + 1] = 0;
  const long from = k / kLine * kLine;
  const Float rest = dot(row, row, from, columns);
  if (!(rest > 1e-36f)) {
    for (long j = from; j < columns; ++j) row[j] = 0;
    return first;
  }
  const Float length = square_root(first * first + rest), beta = first > 0 ? -length : length;
  row[k + 1] = first - beta;
  const Float scale = 1 / square_root(length * (length + magnitude(first)));
  for (long j = from; j < columns; j += kFloats) store(row + j, load(row + j) * scale);
  return beta;
}

// The matrix in x.a to lane `lane` of x.t; row k of x.a becomes the reflection that made it 0
// there.
[[maybe_unused]] static void make_tridiagonal(const Eigen& x, int lane) {
  const long n = x.n, columns = padded(n);
  double* const d = x.t.d + lane;
  double* const e = x.t.e + lane;
  Float* sums = x.v;
  for (long j = 0; j < columns; ++j) x.w[j] = x.v[j] = 0;
  for (long k = 0; k < n; ++k) {
    Float* const row = x.a + k * x.stride;
    const long from = k / kLine * kLine;
    if (k > 0) {
      const Float* const last = row - x.stride;
      const Float of_last = last[k], of_w = x.w[k];
      for (long j = from; j < columns; j += kFloats)
        store(row + j, load(row + j) - (of_last * load(x.w + j) + of_w * load(last + j)));
    }
    d[k * kLanes] = row[k];
    if (k + 1 >= n) break;
    e[k * kLanes] = reflection(row, k, n);
    if (k == 0)
      pass<false>(x, row, row, sums, k + 1);
    else
      pass<true>(x, row - x.stride, row, sums, k + 1);
    const long next = (k + 1) / kLine * kLine;
    const Float half = dot(row, sums, next, columns) / 2;
    for (long j = next; j < columns; j += kFloats)
      store(x.w + j, load(sums + j) - half * load(row + j));
  }
}

// The rows of Z^T, Z the product of the reflections in x.a, which is used up.
[[maybe_unused]] static void make_vectors(const Eigen& x, Float* z) {
  const long n = x.n, columns = padded(n);
  for (long i = 0; i < n; ++i) {
    for (long j = 0; j < columns; ++j) z[i * x.stride + j] = 0;
    z[i * x.stride + i] = 1;
  }
  for (long k = n - 3; k >= 0; --k) {
    const Float* const v = x.a + k * x.stride;
    for (long j = (k + 1) / kLine * kLine; j < columns; j += kFloats) {
      Floats sum = {};
      for (long i = k + 1; i < n; ++i) sum += v[i] * load(z + i * x.stride + j);
      for (long i = k + 1; i < n; ++i) {
        Float* const at = z + i * x.stride + j;
        store(at, load(at) - v[i] * sum);
      }
    }
  }
  for (long i = 0; i < n; ++i)
    __builtin_memcpy(x.a + i * x.stride, z + i * x.stride, columns * sizeof(Float));
  transpose(x.a, x.stride, n, n, z, x.stride);
}

// ---- tridiagonal matrices

KD_INLINE Doubles load_lanes(const double* from) {
  Doubles value;
  __builtin_memcpy(&value, from, sizeof value);
  return value;
}
KD_INLINE void store_lanes(double* to, Doubles value) {
  __builtin_memcpy(to, &value, sizeof value);
}
KD_INLINE Doubles choose(Longs mask, Doubles yes, Doubles no) {
  return (Doubles)((mask & (Longs)yes) | (~mask & (Longs)no));
}
KD_INLINE Doubles magnitude(Doubles x) {
  return (Doubles)((Longs)x & 0x7fffffffffffffffLL);
}
KD_INLINE Doubles root(Doubles x) {
#if VEC == 64 && defined(__AVX512F__) && !defined(__clang__)
  return (Doubles)__builtin_ia32_sqrtpd512_mask(x, x, 0xff, 4);
#elif VEC == 32 && defined(__AVX__)
  return (Doubles)__builtin_ia32_sqrtpd256(x);
#elif VEC == 16 && defined(__SSE2__)
  return (Doubles)__builtin_ia32_sqrtpd(x);
#else
  double lane[kLanes];
  __builtin_memcpy(lane, &x, sizeof lane);
  for (int l = 0; l < kLanes; ++l) lane[l] = __builtin_sqrt(lane[l]);
  __builtin_memcpy(&x, lane, sizeof lane);
  return x;
#endif
}

// Where a sweep of each lane ends and begins: rotations of rows first to last, last down.
struct Ranges {
  Longs first, last;
};

struct Chase {
  Doubles c, s, p, g;
};

template <bool kMasked>
KD_INLINE void rotate_lanes(const Tridiagonal& t, const Ranges& range, Chase& x, long i,
                            Rotations* kept) {
  const Longs at = Longs{} + i, on = (at >= range.first) & (at < range.last);
  double* const d = t.d + i * kLanes;
  double* const e = t.e + i * kLanes;
  const Doubles here = load_lanes(e), f = x.s * here, b = x.c * here;
  const Doubles square = f * f + x.g * x.g;
  const Longs none = square < 1e-290;
  const Doubles r = root(choose(none, Doubles{} + 1, square)), inverse = 1 / r;
  const Doubles s = choose(none, Doubles{}, f * inverse);
  const Doubles c = choose(none, Doubles{} + 1, x.g * inverse);
  const Doubles below = load_lanes(d + kLanes), g = below - x.p;
  const Doubles q = (load_lanes(d) - g) * s + 2 * c * b, p = s * q;
  const Doubles length = choose(none, Doubles{}, r);
  if (kMasked) {
    store_lanes(e + kLanes, choose(on, length, load_lanes(e + kLanes)));
    store_lanes(d + kLanes, choose(on, g + p, below));
    x = {choose(on, c, x.c), choose(on, s, x.s), choose(on, p, x.p), choose(on, c * q - b, x.g)};
  } else {
    store_lanes(e + kLanes, length);
    store_lanes(d + kLanes, g + p);
    x = {c, s, p, c * q - b};
  }
  if (kept)
    for (int l = 0; l < kLanes; ++l) kept->c[l] = Float(c[l]), kept->s[l] = Float(s[l]);
}

// The first m at or after `first` of each lane whose element e[m] is as good as 0.
KD_INLINE Longs find_splits(const Tridiagonal& t, long n, Longs first, long least) {
  Longs found = Longs{} + (n - 1);
  for (long m = n - 2; m >= least; --m) {
    const Doubles around =
        magnitude(load_lanes(t.d + m * kLanes)) + magnitude(load_lanes(t.d + (m + 1) * kLanes));
    const Longs small = magnitude(load_lanes(t.e + m * kLanes)) <= around * t.small + t.least;
    const Longs here = small & (Longs{} + m >= first);
    found = (here & (Longs{} + m)) | (~here & found);
  }
  return found;
}

KD_INLINE long least_of(Longs x) {
  long least = x[0];
  for (int l = 1; l < kLanes; ++l) least = x[l] < least ? x[l] : least;
  return least;
}
KD_INLINE long most_of(Longs x) {
  long most = x[0];
  for (int l = 1; l < kLanes; ++l) most = x[l] > most ? x[l] : most;
  return most;
}

// One sweep of every lane whose range is not empty.
[[maybe_unused]] static void sweep(const Tridiagonal& t, const Ranges& range, Rotations* kept) {
  Chase x = {Doubles{} + 1, Doubles{} + 1, Doubles{}, Doubles{}};
  double start[kLanes] = {};
  long first_of_all = 1L << 40, last_of_all = 0, full_first = 0, full_last = 1L << 40;
  for (int l = 0; l < kLanes; ++l) {
    const long first = range.first[l], last = range.last[l];
    full_first = first > full_first ? first : full_first;
    full_last = last < full_last ? last : full_last;
    if (first >= last) continue;
    first_of_all = first < first_of_all ? first : first_of_all;
    last_of_all = last > last_of_all ? last : last_of_all;
    const double d = t.d[first * kLanes + l], e = t.e[first * kLanes + l];
    const double g = (t.d[(first + 1) * kLanes + l] - d) / (2 * e);
    const double r = __builtin_sqrt(g * g + 1);
    start[l] = t.d[last * kLanes + l] - d + e / (g + (g < 0 ? -r : r));
  }
  x.g = load_lanes(start);
  const auto at = [&](long i) { return kept ? kept + i : kept; };
  long i = last_of_all - 1;
  for (; i >= first_of_all && i >= full_last; --i) rotate_lanes<true>(t, range, x, i, at(i));
  for (; i >= first_of_all && i >= full_first; --i) rotate_lanes<false>(t, range, x, i, at(i));
  for (; i >= first_of_all; --i) rotate_lanes<true>(t, range, x, i, at(i));
  for (int l = 0; l < kLanes; ++l) {
    const long first = range.first[l], last = range.last[l];
    if (first >= last) continue;
    t.d[first * kLanes + l] -= x.p[l];
    t.e[first * kLanes + l] = x.g[l];
    t.e[last * kLanes + l] = 0;
  }
}

// Rotations [first, last) of one lane on kVectors vectors of columns of its rows.
template <int kVectors>
KD_INLINE void rotate_rows(Float* z, long stride, const Rotations* kept, int lane, long first,
                           long last) {
  Floats carried[kVectors];
  for (int v = 0; v < kVectors; ++v) carried[v] = load(z + last * stride + v * kFloats);
  for (long i = last - 1; i >= first; --i) {
    const Float c = kept[i].c[lane], s = kept[i].s[lane];
    Float* const row = z + i * stride;
    for (int v = 0; v < kVectors; ++v) {
      const Floats x = load(row + v * kFloats);
      store(row + stride + v * kFloats, s * x + c * carried[v]);
      carried[v] = c * x - s * carried[v];
    }
  }
  for (int v = 0; v < kVectors; ++v) store(z + first * stride + v * kFloats, carried[v]);
}

[[maybe_unused]] static void apply_kept(const Eigen& x, const Ranges* ranges, int sweeps) {
  constexpr int kVectors = WIDE;
  const long columns = padded(x.n);
  for (int l = 0; l < kLanes; ++l) {
    long j = 0;
    for (; j + kVectors * kFloats <= columns; j += kVectors * kFloats)
      for (int k = 0; k < sweeps; ++k)
        if (ranges[k].first[l] < ranges[k].last[l])
          rotate_rows<kVectors>(x.z[l] + j, x.stride, x.kept + k * x.n, l, ranges[k].first[l],
                                ranges[k].last[l]);
    for (; j < columns; j += kFloats)
      for (int k = 0; k < sweeps; ++k)
        if (ranges[k].first[l] < ranges[k].last[l])
          rotate_rows<1>(x.z[l] + j, x.stride, x.kept + k * x.n, l, ranges[k].first[l],
                         ranges[k].last[l]);
  }
}

// Solves the lanes [0, lanes): x.t.d has the eigenvalues, in no order, and the rows of x.z are
// rotated with them if `vectors`. The lanes whose bit is set in the result did not converge.
[[maybe_unused]] static unsigned solve_tridiagonal(const Eigen& x, int lanes, bool vectors) {
  const long n = x.n;
  Longs first = {};
  for (int l = lanes; l < kLanes; ++l)
    for (long i = 0; i <= n; ++i) x.t.d[i * kLanes + l] = x.t.e[i * kLanes + l] = 0;
  for (int l = 0; l < kLanes; ++l) x.t.e[(n - 1) * kLanes + l] = 0;
  Ranges ranges[kSweeps];
  int kept = 0;
  for (long turn = 0; turn < 30 * n; ++turn) {
    Ranges range{first, find_splits(x.t, n, first, least_of(first))};
    for (int l = 0; l < kLanes; ++l)
      while (first[l] < n - 1 && range.last[l] == first[l]) {
        long m = ++first[l];
        for (; m < n - 1; ++m) {
          const double around =
              __builtin_fabs(x.t.d[m * kLanes + l]) + __builtin_fabs(x.t.d[(m + 1) * kLanes + l]);
          if (__builtin_fabs(x.t.e[m * kLanes + l]) <= around * x.t.small + x.t.least) break;
        }
        range.last[l] = m;
      }
    range.first = first;
    if (least_of(first) >= n - 1) break;
    sweep(x.t, range, vectors ? x.kept + kept * n : nullptr);
    if (vectors) {
      ranges[kept++] = range;
      if (kept == kSweeps) apply_kept(x, ranges, kept), kept = 0;
    }
  }
  if (kept) apply_kept(x, ranges, kept);
  unsigned failed = 0;
  for (int l = 0; l < lanes; ++l) failed |= unsigned(first[l] < n - 1) << l;
  return failed;
}

// Places of lane `lane`'s eigenvalues in ascending order.
[[maybe_unused]] static void sort_values(const Eigen& x, int lane, int* order) {
  const double* const d = x.t.d + lane;
  for (long i = 0; i < x.n; ++i) {
    long at = i;
    for (; at > 0 && d[order[at - 1] * kLanes] > d[i * kLanes]; --at) order[at] = order[at - 1];
    order[at] = int(i);
  }
}
