// Singular values by an upper bidiagonal matrix B with U^T X V = B.
//
// Reflections from the left and from the right, in float: a pass over the rows of X applies the two
// of the last step and multiplies by the next left one; a second pass multiplies by the right one.
// B^T B is tridiagonal. It is made and solved in double, so that its eigenvalues are the squares of
// singular values to float's accuracy.
#pragma once
#include "tridiagonal.cpu.h"

// Of a task: length rows of k elements, `stride` apart; four columns and two rows to work with.
struct Bidiagonal {
  long length, k, stride;
  float* x;
  float *left, *last_left, *side, *low, *last_low;
};

// Columns [j, j + kVectors vectors) of the rows [from, length): less the products of the last step
// (side with z, last_left with last_low), then their sum with the factors of the next, to b.low.
template <int kVectors>
KD_INLINE void bidiagonal_columns(const Bidiagonal& b, const float* z, long from, long j) {
  Floats sum[kVectors] = {}, of_z[kVectors], of_low[kVectors];
  for (int v = 0; v < kVectors; ++v) {
    of_z[v] = load(z + j + v * kFloats);
    of_low[v] = load(b.last_low + j + v * kFloats);
  }
  for (long i = from; i < b.length; ++i)
    for (int v = 0; v < kVectors; ++v) {
      float* const at = b.x + i * b.stride + j + v * kFloats;
      const Floats row = load(at) - (b.side[i] * of_z[v] + b.last_left[i] * of_low[v]);
      store(at, row);
      sum[v] += b.left[i] * row;
    }
  for (int v = 0; v < kVectors; ++v) store(b.low + j + v * kFloats, sum[v]);
}

// Makes of b.left[from..], a column, the v of I - v v^T that turns it into one element, returned.
static float column_reflection(float* column, long from, long length) {
  const float first = column[from];
  float rest = 0;
  for (long i = from + 1; i < length; ++i) rest += column[i] * column[i];
  if (!(rest > 1e-36f)) {
    for (long i = from; i < length; ++i) column[i] = 0;
    return first;
  }
  const float size = __builtin_sqrtf(first * first + rest), beta = first > 0 ? -size : size;
  column[from] = first - beta;
  const float scale = 1 / __builtin_sqrtf(size * (size + __builtin_fabsf(first)));
  for (long i = from; i < length; ++i) column[i] *= scale;
  return beta;
}

// side[i] = row i of x times z, less left[i] along, for the rows [from, length).
static void multiply_rows(const Bidiagonal& b, const float* z, float along, long from) {
  const long columns = padded(b.k), begin = from / kLine * kLine;
  long i = from;
  for (; i + 4 <= b.length; i += 4) {
    Floats sum[4] = {};
    const float* const row = b.x + i * b.stride;
    for (long j = begin; j < columns; j += kFloats) {
      const Floats of_z = load(z + j);
      for (int r = 0; r < 4; ++r) sum[r] += load(row + r * b.stride + j) * of_z;
    }
    for (int r = 0; r < 4; ++r) b.side[i + r] = sum_of(sum[r]) - b.left[i + r] * along;
  }
  for (; i < b.length; ++i)
    b.side[i] = dot(b.x + i * b.stride, z, begin, columns) - b.left[i] * along;
}

static void swap(float*& x, float*& y) {
  float* const other = x;
  x = y;
  y = other;
}

// B^T B of b.x, which is used up, to lane `lane` of e.t; row j of e.a becomes the reflection of V.
static void make_bidiagonal(Bidiagonal b, const Eigen& e, int lane) {
  const long k = b.k, columns = padded(k);
  constexpr int kVectors = WIDE;
  for (long i = 0; i < b.length; ++i) b.side[i] = b.last_left[i] = 0;
  for (long j = 0; j < columns; ++j) b.last_low[j] = b.low[j] = e.v[j] = 0;
  const float* z = e.v;
  double above = 0;
  for (long j = 0; j < k; ++j) {
    const float of_z = z[j], of_low = b.last_low[j];
    for (long i = j; i < b.length; ++i)
      b.left[i] = b.x[i * b.stride + j] - (b.side[i] * of_z + b.last_left[i] * of_low);
    const double d = column_reflection(b.left, j, b.length);
    e.t.d[j * kLanes + lane] = d * d + above * above;
    if (j + 1 == k) break;
    long c = (j + 1) / kLine * kLine;
    for (; c + kVectors * kFloats <= columns; c += kVectors * kFloats)
      bidiagonal_columns<kVectors>(b, z, j, c);
    for (; c < columns; c += kFloats) bidiagonal_columns<1>(b, z, j, c);
    float* const next = e.a + j * e.stride;
    for (long i = j / kLine * kLine; i < columns; i += kFloats)
      store(next + i, load(b.x + j * b.stride + i) - b.left[j] * load(b.low + i));
    above = reflection(next, j, k);
    e.t.e[j * kLanes + lane] = d * above;
    z = next;
    multiply_rows(b, z, dot(b.low, z, (j + 1) / kLine * kLine, columns), j + 1);
    swap(b.left, b.last_left);
    swap(b.low, b.last_low);
  }
}
