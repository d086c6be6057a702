// clang-format off
// P A = L U and triangular systems of one matrix by a group of threads, in shared or in scratch memory.
//
// A group is 32 lanes by some warps: threadIdx.x is a thread's lane, threadIdx.y its warp.
//
// The matrix and its right sides are rows of `stride` floats in w: A in the first columns, the right sides from
// column `sides` on, both a multiple of 8, and all that is between and below them is 0. Panels of 8 columns are
// factored or solved row by row, or column by column, by one thread each; then all that is beyond them is
// updated in tiles of 4 x 4.
#pragma once
#include "../common/kd_arguments.h"
#include "team.cu.h"

// A kernel of an operator.
#define KD_KERNEL(name) \
  extern "C" __global__ void __launch_bounds__(kMostThreads) name(const __grid_constant__ kd_arguments a)

constexpr int kPanel = 8;
constexpr int kMostThreads = 512;

// What the threads of a group tell one another.
struct Table {
  unsigned size[kMostThreads / 32];
  int row[kMostThreads / 32];
  int least;
};

KD_INLINE int thread_of() {
  return (int)(threadIdx.y * 32 + threadIdx.x);
}

KD_INLINE int thread_count() {
  return (int)blockDim.y * 32;
}

struct Matrix {
  float* w;
  int stride, sides, width;  // width: with the right sides
};

KD_INLINE int padded(int n) {
  return (n + 7) / 8 * 8;
}

// An odd number of 16 bytes, so that rows begin in different banks.
KD_INLINE int stride_of(int width) {
  return width % 8 ? width : width + 4;
}

// element(i, j) of rows x columns, or the right sides `b` from column `sides` on: k columns, or those of I if null.
template <class Element>
KD_INLINE float entry(int i, int j, int rows, int columns, int k, int sides, const float* b, Element element) {
  if (i >= rows) return 0.0f;
  if (j < columns) return element(i, j);
  if (j < sides || j >= sides + k) return 0.0f;
  return b ? b[(long)i * k + j - sides] : i == j - sides ? 1.0f : 0.0f;
}

// All entries of rows x columns and of k right sides.
template <class Element>
KD_INLINE Matrix load(float* w, int rows, int columns, int k, const float* b, Element element) {
  const int sides = padded(columns), width = sides + (k + 3) / 4 * 4, stride = stride_of(width);
  const int height = padded(rows);
  for (int i = threadIdx.y; i < height; i += blockDim.y)
    for (int j = threadIdx.x; j < width; j += 32)
      w[(long)i * stride + j] = entry(i, j, rows, columns, k, sides, b, element);
  __syncthreads();
  return {w, stride, sides, width};
}

KD_INLINE float4 take(const float* from) {
  return *(const float4*)from;
}

KD_INLINE void subtract(float4& x, float factor, float4 y) {
  x.x -= factor * y.x;
  x.y -= factor * y.y;
  x.z -= factor * y.z;
  x.w -= factor * y.w;
}

// Rows [r0, r1), columns [c0, c1): less the product of the rows' columns [p, p + 8) and rows [p, p + 8). `lower`:
// columns up to the diagonal will do.
template <bool lower = false>
KD_INLINE void update(const Matrix& a, int r0, int r1, int c0, int c1, int p) {
  const int lane = threadIdx.x, stride = a.stride;
  const float* const above = a.w + (long)p * stride;
  for (int r = r0 + threadIdx.y * 16 + lane / 8 * 4; r < r1; r += blockDim.y * 16) {
    float* const row = a.w + (long)r * stride;
    float left[4][8];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float4 x = take(row + i * stride + p), y = take(row + i * stride + p + 4);
      left[i][0] = x.x, left[i][1] = x.y, left[i][2] = x.z, left[i][3] = x.w;
      left[i][4] = y.x, left[i][5] = y.y, left[i][6] = y.z, left[i][7] = y.w;
    }
    for (int j = c0 + lane % 8 * 4; j < (lower ? min(c1, r + 4) : c1); j += 32) {
      float4 sum[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) sum[i] = take(row + i * stride + j);
#pragma unroll
      for (int c = 0; c < 8; ++c) {
        const float4 x = take(above + c * stride + j);
#pragma unroll
        for (int i = 0; i < 4; ++i) subtract(sum[i], left[i][c], x);
      }
#pragma unroll
      for (int i = 0; i < 4; ++i) *(float4*)(row + i * stride + j) = sum[i];
    }
  }
}

// ---- P A = L U

// The row of the largest element of column c from row c on, the first of equal ones, and its bits.
KD_INLINE unsigned find_pivot(const Matrix& a, int m, int c, Table& table, int& row) {
  unsigned most = 0;
  int at = m;
  for (int i = c + thread_of(); i < m; i += thread_count()) {
    const unsigned size = __float_as_uint(a.w[(long)i * a.stride + c]) & 0x7fffffffu;
    if (at == m || size > most) most = size, at = i;
  }
  const unsigned largest = largest_of_warp(most);
  const int warp = threadIdx.y;
  const unsigned first = ~largest_of_warp(most == largest ? ~(unsigned)at : 0u);
  if (threadIdx.x == 0) table.size[warp] = largest, table.row[warp] = (int)first;
  __syncthreads();
  most = table.size[0], row = table.row[0];
  for (int other = 1; other < blockDim.y; ++other) {
    const unsigned size = table.size[other];
    const int there = table.row[other];
    if (size > most || (size == most && there < row)) most = size, row = there;
  }
  return most;
}

// Columns [p, p + count) of the rows from p on, with exchanges of whole rows.
template <bool allows_zero, class Note>
KD_INLINE int factor_panel(const Matrix& a, int m, int p, int count, Table& table, Note note) {
  const int stride = a.stride;
  for (int c = p; c < p + count; ++c) {
    int row;
    const unsigned size = find_pivot(a, m, c, table, row);
    if (size >= 0x7f800000u || (!allows_zero && size == 0)) return c + 1;
    float* const to = a.w + (long)c * stride;
    if (row != c)
      for (int j = thread_of(); j < a.width; j += thread_count()) {
        const float kept = to[j];
        to[j] = a.w[(long)row * stride + j];
        a.w[(long)row * stride + j] = kept;
      }
    note(c, row);
    __syncthreads();
    const float pivot = to[c];
    for (int i = c + 1 + thread_of(); i < m; i += thread_count()) {  // of those rows it seeks the next pivot

      float* const x = a.w + (long)i * stride;
      const float factor = size == 0 ? 0.0f : x[c] / pivot;
      x[c] = factor;
      for (int d = c + 1; d < p + count; ++d) x[d] -= factor * to[d];
    }
  }
  __syncthreads();
  return 0;
}

// The rows of a panel right of it, a thread a column.
KD_INLINE void reduce_rows(const Matrix& a, int p, int from) {
  const float* const l = a.w + (long)p * a.stride + p;
  for (int j = from + thread_of(); j < a.width; j += thread_count()) {
    float* const column = a.w + (long)p * a.stride + j;
    float x[kPanel];
#pragma unroll
    for (int c = 0; c < kPanel; ++c) {
      x[c] = column[c * a.stride];
#pragma unroll
      for (int d = 0; d < c; ++d) x[c] -= l[c * a.stride + d] * x[d];
      column[c * a.stride] = x[c];
    }
  }
}

// L below the diagonal of A and U on and above it; the right sides become L^-1 P B. 0, or the first column, from
// 1, without a pivot that is finite (and not 0, unless allowed). note(column, row) is called by all threads.
template <bool allows_zero, class Note>
KD_INLINE int eliminate(const Matrix& a, int m, int n, Table& table, Note note) {
  const int steps = min(m, n);
  for (int p = 0; p < steps; p += kPanel) {
    const int count = min(kPanel, steps - p);
    if (const int failed = factor_panel<allows_zero>(a, m, p, count, table, note)) return failed;
    if (p + count >= a.width) break;
    reduce_rows(a, p, p + count);
    __syncthreads();
    if (count == kPanel) update(a, p + kPanel, padded(m), p + kPanel, a.width, p);
    __syncthreads();
  }
  return 0;
}

// ---- triangles

// T X = B for the right sides, where T is the lower triangle (`forward`) or the upper one, with 1 on the
// diagonal if `is_unit`.
template <bool forward>
KD_INLINE void substitute(const Matrix& a, int n, int k, bool is_unit) {
  const int stride = a.stride, panels = padded(n) / kPanel;
  for (int step = 0; step < panels; ++step) {
    const int p = (forward ? step : panels - 1 - step) * kPanel, count = min(kPanel, n - p);
    const float* const t = a.w + (long)p * stride + p;
    for (int j = thread_of(); j < k; j += thread_count()) {
      float* const column = a.w + (long)p * stride + a.sides + j;
      float x[kPanel];
#pragma unroll
      for (int at = 0; at < kPanel; ++at) {
        const int c = forward ? at : kPanel - 1 - at;
        x[c] = 0.0f;
        if (c < count) {
          float sum = column[c * stride];
#pragma unroll
          for (int before = 0; before < at; ++before) {
            const int d = forward ? before : kPanel - 1 - before;
            sum -= t[c * stride + d] * x[d];
          }
          x[c] = is_unit ? sum : sum / t[c * stride + c];
          column[c * stride] = x[c];
        }
      }
    }
    __syncthreads();
    if (forward)
      update(a, p + kPanel, padded(n), a.sides, a.width, p);
    else
      update(a, 0, p, a.sides, a.width, p);
    __syncthreads();
  }
}

// The first of rows [from, to) with 0 on the diagonal or an element that is not finite, of the triangle of n columns, or
// n, as far as a thread sees: a warp takes a row.
KD_INLINE int first_bad_row(const float* a, int from, int to, int n, bool upper, bool is_unit) {
  int least = n;
  for (int i = from + threadIdx.y; i < to; i += blockDim.y)
    for (int j = threadIdx.x; j < n; j += 32) {
      const float x = a[(long)i * n + j];
      if (i == j ? is_unit : upper ? j < i : j > i) continue;
      if (!is_finite(x) || (i == j && x == 0.0f)) least = min(least, i);
    }
  return least;
}

// That of all rows, from 1, or 0.
KD_INLINE int examine(const float* a, int n, bool upper, bool is_unit, Table& table) {
  if (thread_of() == 0) table.least = n;
  __syncthreads();
  if (const int least = first_bad_row(a, 0, n, n, upper, is_unit); least < n) atomicMin(&table.least, least);
  __syncthreads();
  return table.least < n ? table.least + 1 : 0;
}

// ---- results

// Output 0: k columns of the right sides, or NaN; output 1: info.
KD_INLINE void store_sides(const kd_arguments& arguments, const Matrix& a, int n, int k, int failed) {
  float* const to = (float*)arguments.outputs[0] + (long)blockIdx.x * n * k;
  if (thread_of() == 0) ((int*)arguments.outputs[1])[blockIdx.x] = failed;
  for (int i = threadIdx.y; i < n; i += blockDim.y)
    for (int j = threadIdx.x; j < k; j += 32)
      to[(long)i * k + j] = failed ? not_a_number() : a.w[(long)i * a.stride + a.sides + j];
}

// Where a group works on its matrix.
KD_INLINE float* in_shared_memory() {
  extern __shared__ float4 shared[];
  return (float*)shared;
}

// The matrix of a group.
KD_INLINE const float* matrix_of(const kd_arguments& a, int rows, int columns) {
  return (const float*)a.inputs[0] + (long)blockIdx.x * rows * columns;
}

// A X = B for k right sides `b` (I if null), by P A = L U.
KD_INLINE void solve_sides(const kd_arguments& a, int n, int k, const float* b) {
  __shared__ Table table;
  const float* const from = matrix_of(a, n, n);
  const Matrix work = load(in_shared_memory(), n, n, k, b, [&](int i, int j) { return from[(long)i * n + j]; });
  const int failed = eliminate<false>(work, n, n, table, [](int, int) {});
  if (!failed) substitute<false>(work, n, k, false);
  store_sides(a, work, n, k, failed);
}
