// Singular values by an upper bidiagonal matrix B with U^T X V = B.
//
// Reflections from the left and from the right, in float32, or float64 for matrices of it: a pass
// over the rows of X applies the two of the last step and multiplies by the next left one; a second
// pass multiplies by the right one. B^T B is tridiagonal. It is made and solved in float64, so that
// its eigenvalues are the squares of singular values to float32's accuracy. To float64's they are
// the positive eigenvalues of the matrix of twice the size, 0 on its diagonal, whose elements
// beside it are those of B by turns (Golub and Kahan 1965).
#pragma once
#include "tridiagonal.cpu.h"

// Of a task: length rows of k elements, `stride` apart; four columns and two rows to work with.
struct Bidiagonal {
  long length, k, stride;
  Float* x;
  Float *left, *last_left, *side, *low, *last_low;
};

// Columns [j, j + kVectors vectors) of the rows [from, length): less the products of the last step
// (side with z, last_left with last_low), then their sum with the factors of the next, to b.low.
template <int kVectors>
KD_INLINE void bidiagonal_columns(const Bidiagonal& b, const Float* z, long from, long j) {
  Floats sum[kVectors] = {}, of_z[kVectors], of_low[kVectors];
  for (int v = 0; v < kVectors; ++v) {
    of_z[v] = load(z + j + v * kFloats);
    of_low[v] = load(b.last_low + j + v * kFloats);
  }
  for (long i = from; i < b.length; ++i)
    for (int v = 0; v < kVectors; ++v) {
      Float* const at = b.x + i * b.stride + j + v * kFloats;
      const Floats row = load(at) - (b.side[i] * of_z[v] + b.last_left[i] * of_low[v]);
      store(at, row);
      sum[v] += b.left[i] * row;
    }
  for (int v = 0; v < kVectors; ++v) store(b.low + j + v * kFloats, sum[v]);
}

// Makes of b.left[from..], a column, the v of I - v v^T that turns it into one element, returned.
static Float column_reflection(Float* column, long from, long length) {
  const Float first = column[from];
  Float rest = 0;
  for (long i = from + 1; i < length; ++i) rest += column[i] * column[i];
  if (!(rest > Float(sizeof(Float) == 8 ? 1e-60 : 1e-36))) {
    for (long i = from; i < length; ++i) column[i] = 0;
    return first;
  }
  const Float size = square_root(first * first + rest), beta = first > 0 ? -size : size;
  column[from] = first - beta;
  const Float scale = 1 / square_root(size * (size + magnitude(first)));
  for (long i = from; i < length; ++i) column[i] *= scale;
  return beta;
}

// side[i] = row i of x times z, less left[i] along, for the rows [from, length).
static void multiply_rows(const Bidiagonal& b, const Float* z, Float along, long from) {
  const long columns = padded(b.k), begin = from / kLine * kLine;
  long i = from;
  for (; i + 4 <= b.length; i += 4) {
    Floats sum[4] = {};
    const Float* const row = b.x + i * b.stride;
    for (long j = begin; j < columns; j += kFloats) {
      const Floats of_z = load(z + j);
      for (int r = 0; r < 4; ++r) sum[r] += load(row + r * b.stride + j) * of_z;
    }
    for (int r = 0; r < 4; ++r) b.side[i + r] = sum_of(sum[r]) - b.left[i + r] * along;
  }
  for (; i < b.length; ++i)
    b.side[i] = dot(b.x + i * b.stride, z, begin, columns) - b.left[i] * along;
}

static void swap(Float*& x, Float*& y) {
  Float* const other = x;
  x = y;
  y = other;
}

// Elements d of B and the one above the diagonal before it, to lane `lane` of t: of B^T B, or with
// `twice` of the matrix of twice the size.
KD_INLINE void add_element(const Tridiagonal& t, bool twice, long j, int lane, double above,
                           double d) {
  if (twice) {
    t.d[2 * j * kLanes + lane] = t.d[(2 * j + 1) * kLanes + lane] = 0;
    t.e[2 * j * kLanes + lane] = d;
    if (j > 0) t.e[(2 * j - 1) * kLanes + lane] = above;
  } else {
    t.d[j * kLanes + lane] = d * d + above * above;
  }
}

// Lane `lane` of t of b.x, which is used up; row j of e.a becomes the reflection of V.
static void make_bidiagonal(Bidiagonal b, const Eigen& e, const Tridiagonal& t, bool twice,
                            int lane) {
  const long k = b.k, columns = padded(k);
  constexpr int kVectors = WIDE;
  for (long i = 0; i < b.length; ++i) b.side[i] = b.last_left[i] = 0;
  for (long j = 0; j < columns; ++j) b.last_low[j] = b.low[j] = e.v[j] = 0;
  const Float* z = e.v;
  double above = 0;
  for (long j = 0; j < k; ++j) {
    const Float of_z = z[j], of_low = b.last_low[j];
    for (long i = j; i < b.length; ++i)
      b.left[i] = b.x[i * b.stride + j] - (b.side[i] * of_z + b.last_left[i] * of_low);
    const double d = column_reflection(b.left, j, b.length);
    add_element(t, twice, j, lane, above, d);
    if (j + 1 == k) break;
    long c = (j + 1) / kLine * kLine;
    for (; c + kVectors * kFloats <= columns; c += kVectors * kFloats)
      bidiagonal_columns<kVectors>(b, z, j, c);
    for (; c < columns; c += kFloats) bidiagonal_columns<1>(b, z, j, c);
    Float* const next = e.a + j * e.stride;
    for (long i = j / kLine * kLine; i < columns; i += kFloats)
      store(next + i, load(b.x + j * b.stride + i) - b.left[j] * load(b.low + i));
    above = reflection(next, j, k);
    if (!twice) t.e[j * kLanes + lane] = d * above;
    z = next;
    multiply_rows(b, z, dot(b.low, z, (j + 1) / kLine * kLine, columns), j + 1);
    swap(b.left, b.last_left);
    swap(b.low, b.last_low);
  }
}
