// clang-format off
// P A = L U and triangular systems of one matrix by a group of threads, in shared or in scratch memory.
//
// The matrix and its right sides are rows of `stride` floats in w: A in the first columns, the right sides from
// column `sides` on, both a multiple of 8, and all that is between and below them is 0. Panels of 8 columns are
// factored or solved row by row, or column by column, by one thread each; then all that is beyond them is
// updated in tiles of 4 x 4.
#pragma once
#include "../common/kd_arguments.h"
#include "team.cu.h"

#ifndef WIDE
#define WIDE 2  // threads of a row; the launch has them
#endif
#ifndef SHARED
#define SHARED 225  // KiB of a matrix in shared memory at most; the launch has them
#endif

constexpr int kPanel = 8;
constexpr int kMostThreads = 512;

// What the threads of a group tell one another.
struct Table {
  unsigned size[kMostThreads / 32];
  int row[kMostThreads / 32];
  int least;
};

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

// Reads element(i, j) of rows x columns, and the right sides `b`: k columns, or those of I if null.
template <class Element>
KD_INLINE Matrix load(float* w, int rows, int columns, int k, const float* b, Element element) {
  const int sides = padded(columns), width = sides + (k + 3) / 4 * 4, stride = stride_of(width);
  const int height = padded(rows), quarter = threadIdx.x & 31;
  for (int i = threadIdx.x / 32; i < height; i += blockDim.x / 32)
    for (int j = quarter; j < width; j += 32) {
      float x = 0.0f;
      if (i < rows && j < columns) x = element(i, j);
      if (i < rows && j >= sides && j < sides + k) x = b ? b[(long)i * k + j - sides] : i == j - sides ? 1.0f : 0.0f;
      w[(long)i * stride + j] = x;
    }
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
  const int lane = threadIdx.x & 31, stride = a.stride;
  const float* const above = a.w + (long)p * stride;
  for (int r = r0 + threadIdx.x / 32 * 16 + lane / 8 * 4; r < r1; r += blockDim.x / 2) {
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
  for (int i = c + threadIdx.x; i < m; i += blockDim.x) {
    const unsigned size = __float_as_uint(a.w[(long)i * a.stride + c]) & 0x7fffffffu;
    if (at == m || size > most) most = size, at = i;
  }
  const unsigned largest = largest_of_warp(most);
  const int warp = threadIdx.x / 32;
  const unsigned first = ~largest_of_warp(most == largest ? ~(unsigned)at : 0u);
  if (threadIdx.x % 32 == 0) table.size[warp] = largest, table.row[warp] = (int)first;
  __syncthreads();
  most = table.size[0], row = table.row[0];
  for (int other = 1; other < blockDim.x / 32; ++other) {
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
      for (int j = threadIdx.x; j < a.width; j += blockDim.x) {
        const float kept = to[j];
        to[j] = a.w[(long)row * stride + j];
        a.w[(long)row * stride + j] = kept;
      }
    note(c, row);
    __syncthreads();
    const float pivot = to[c];
    for (int i = c + 1 + threadIdx.x; i < m; i += blockDim.x) {  // of those rows it seeks the next pivot

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
  for (int j = from + threadIdx.x; j < a.width; j += blockDim.x) {
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
    for (int j = threadIdx.x; j < k; j += blockDim.x) {
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

// The first row, from 1, with 0 on the diagonal or an element that is not finite, of the triangle; or 0.
KD_INLINE int examine(const float* a, int n, bool upper, bool is_unit, Table& table) {
  if (threadIdx.x == 0) table.least = n;
  __syncthreads();
  for (int i = threadIdx.x / 32; i < n; i += blockDim.x / 32) {
    bool is_good = true;
    for (int j = threadIdx.x % 32; j < n; j += 32) {
      const float x = a[(long)i * n + j];
      if (i == j ? is_unit : upper ? j < i : j > i) continue;
      is_good = is_good && is_finite(x) && (i != j || x != 0.0f);
    }
    if (!is_good) atomicMin(&table.least, i);
  }
  __syncthreads();
  return table.least < n ? table.least + 1 : 0;
}

// ---- results

// k columns of the right sides, or NaN.
KD_INLINE void store_sides(const Matrix& a, int n, int k, bool failed, float* to) {
  for (int i = threadIdx.x / 32; i < n; i += blockDim.x / 32)
    for (int j = threadIdx.x % 32; j < k; j += 32)
      to[(long)i * k + j] = failed ? not_a_number() : a.w[(long)i * a.stride + a.sides + j];
}

// Where a matrix is worked on: shared memory if it was given, else its part of scratch memory.
KD_INLINE long floats_of(int rows, int columns, int k) {
  return (long)padded(rows) * stride_of(padded(columns) + (k + 3) / 4 * 4);
}

KD_INLINE bool is_shared(long floats) {
  return floats <= SHARED * 256L;
}
