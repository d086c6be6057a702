// clang-format off
// Matrices that do not fit into shared memory: many groups work on each, in scratch memory, stage by stage.
//
// Scratch 0 has each matrix and its right sides in rows of `width` floats, a multiple of 32 as their number is: A in the
// first columns, the right sides from column `sides` on. What is between and behind them is 0. Scratch 1 has the numbers
// of each matrix: info, then one for every 32 rows, then the row that was exchanged with each row.
//
// Groups are 32 lanes by 8 warps, of factor_columns by 16. Those that work on columns take 32 of them.
#pragma once
#include "systems.cu.h"

constexpr int kBlock = 32, kBlockLine = kBlock + 4;
constexpr int kTall = 1536, kTaller = 2816;  // rows of a panel of 32 columns and of 16 at most; taller ones have 8
constexpr int kTallest = 4736;               // rows of one that is factored in shared memory

typedef float Block[kBlock][kBlockLine];

struct Large {
  float* w;
  int rows, sides, width;
  int *info, *found, *pivots;
};

KD_INLINE int blocks_of(int n) {
  return (n + kBlock - 1) / kBlock;
}

KD_INLINE Large large_of(const kd_arguments& a, int m, int n, int k) {
  const int rows = kBlock * blocks_of(m), sides = kBlock * blocks_of(n), width = sides + kBlock * blocks_of(k);
  int* const numbers = (int*)a.scratch[1] + (long)blockIdx.x * (1 + blocks_of(m) + rows);
  return {(float*)a.scratch[0] + (long)blockIdx.x * rows * width, rows, sides, width,
          numbers, numbers + 1, numbers + 1 + blocks_of(m)};
}

KD_INLINE float* at(const Large& l, int i, int j) {
  return l.w + (long)i * l.width + j;
}

// Block y of rows of element(i, j) and of the right sides `b` (I if null). No matrix has failed yet.
template <class Element>
KD_INLINE void load_rows(const Large& l, int m, int n, int k, const float* b, Element element) {
  const int first = blockIdx.y * kBlock;
  for (int i = first + threadIdx.y; i < first + kBlock; i += blockDim.y)
    for (int j = threadIdx.x; j < l.width; j += 32) *at(l, i, j) = entry(i, j, m, n, k, l.sides, b, element);
  if (blockIdx.y == 0 && thread_of() == 0) *l.info = 0;
}

KD_INLINE void load_general(const kd_arguments& a, int n, int k, const float* b) {
  const float* const from = matrix_of(a, n, n);
  load_rows(large_of(a, n, n, k), n, n, k, b, [&](int i, int j) { return from[(long)i * n + j]; });
}

// What block y of rows found: the least of what its threads found.
KD_INLINE void note_least(const Large& l, int found) {
  __shared__ int least;
  if (thread_of() == 0) least = found;
  __syncthreads();
  atomicMin(&least, found);
  __syncthreads();
  if (thread_of() == 0) l.found[blockIdx.y] = least;
}
KD_INLINE int least_found(const Large& l) {
  int least = l.found[0];
  for (int i = 1; i < l.rows / kBlock; ++i) least = min(least, l.found[i]);
  return least;
}

KD_INLINE void load_block(Block& block, const Large& l, int i, int j) {
  for (int r = threadIdx.y; r < kBlock; r += blockDim.y) block[r][threadIdx.x] = *at(l, i + r, j + threadIdx.x);
}
KD_INLINE void store_block(const Block& block, const Large& l, int i, int j) {
  for (int r = threadIdx.y; r < kBlock; r += blockDim.y) *at(l, i + r, j + threadIdx.x) = block[r][threadIdx.x];
}

// T X = B by a warp, a column in each lane: x becomes X. Rows from `count` on are 0.
template <bool forward, int kWide>
KD_INLINE void solve_block(const Block& t, float (*x)[kBlockLine], int count, bool is_unit) {
  float y[kWide];
#pragma unroll
  for (int c = 0; c < kWide; ++c) y[c] = c < count ? x[c][threadIdx.x] : 0.0f;
#pragma unroll
  for (int step = 0; step < kWide; ++step) {
    const int c = forward ? step : kWide - 1 - step;
    if (!is_unit && c < count) y[c] /= t[c][c];
#pragma unroll
    for (int after = step + 1; after < kWide; ++after) {
      const int d = forward ? after : kWide - 1 - after;
      y[d] -= t[d][c] * y[c];
    }
  }
#pragma unroll
  for (int c = 0; c < kWide; ++c) x[c][threadIdx.x] = y[c];
}

// Rows [r0, r1) of the 32 columns from `column` on, as far as `end`: less the product of the rows' columns
// [p, p + kDeep) and `upper`, by the whole group.
template <int kDeep>
KD_INLINE void subtract_product(const Large& l, int r0, int r1, int column, int end, int p, const float (*upper)[kBlockLine]) {
  const int across = thread_of() % 8 * 4, down = thread_of() / 8 * 4;
  if (column + across >= end) return;
  for (int r = r0 + down; r < r1; r += thread_count() / 2) {
    float4 sum[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) sum[i] = take(at(l, r + i, column + across));
#pragma unroll 4
    for (int d = 0; d < kDeep; d += 4) {
      float4 left[4], right[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) left[i] = take(at(l, r + i, p + d)), right[i] = take(&upper[d + i][across]);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        subtract(sum[i], left[i].x, right[0]);
        subtract(sum[i], left[i].y, right[1]);
        subtract(sum[i], left[i].z, right[2]);
        subtract(sum[i], left[i].w, right[3]);
      }
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) *(float4*)at(l, r + i, column + across) = sum[i];
  }
}

// ---- P A = L U

KD_INLINE int panel_width(int rows) {
  return rows > kTaller ? kPanel : rows > kTall ? 2 * kPanel : kBlock;
}

// The panel that begins at column a.stage, by one group: in shared memory if it fits there.
template <bool allows_zero>
KD_INLINE void factor_columns(const kd_arguments& a, const Large& l, int m, int n) {
  __shared__ Table table;
  if (*l.info) return;
  const int p = (int)a.stage, height = l.rows - p, wide = panel_width(height);
  const auto note = [&](int c, int row) {
    if (thread_of() == 0) l.pivots[p + c] = p + row;
  };
  const Matrix there = {at(l, p, p), l.width, wide, wide}, here = {in_shared_memory(), stride_of(wide), wide, wide};
  const auto copy = [&](const Matrix& to, const Matrix& from) {
    for (int e = thread_of(); e < height * wide / 4; e += thread_count()) {
      const int i = e / (wide / 4), j = e % (wide / 4) * 4;
      *(float4*)(to.w + (long)i * to.stride + j) = take(from.w + (long)i * from.stride + j);
    }
    __syncthreads();
  };
  int failed;
  if (height <= kTallest) {
    copy(here, there);
    failed = eliminate<allows_zero>(here, m - p, min(wide, n - p), table, note);
    copy(there, here);
  } else {
    failed = eliminate<allows_zero>(there, m - p, min(wide, n - p), table, note);
  }
  if (failed && thread_of() == 0) *l.info = p + failed;
}

// Rows of 32 columns, from `first` on as far as `end`, that a panel's pivots exchange.
struct Exchange {
  float x[2 * kBlock][kBlockLine];  // rows p, p + 1, ..., then those that they are exchanged with
  int rows[kBlock], places[kBlock];
};
KD_INLINE void exchange(const Large& l, Exchange& s, int p, int wide, int count, int first, int end) {
  if (threadIdx.y == 0) {
    const int c = threadIdx.x, row = c < count ? l.pivots[p + c] : p + c;
    int place = row < p + wide ? row - p : kBlock + c;
    for (int d = c - 1; d >= 0 && row >= p + wide; --d)
      if (l.pivots[p + d] == row) place = kBlock + d;
    s.rows[c] = row, s.places[c] = place;
  }
  __syncthreads();
  const int column = first + threadIdx.x;
  const bool is_inside = column < end;
  for (int c = threadIdx.y; c < wide; c += blockDim.y) {
    s.x[c][threadIdx.x] = is_inside ? *at(l, p + c, column) : 0.0f;
    if (s.places[c] == kBlock + c) s.x[kBlock + c][threadIdx.x] = is_inside ? *at(l, s.rows[c], column) : 0.0f;
  }
  __syncthreads();
  for (int c = 0; c < count && threadIdx.y == 0; ++c) {
    const float kept = s.x[c][threadIdx.x];
    s.x[c][threadIdx.x] = s.x[s.places[c]][threadIdx.x];
    s.x[s.places[c]][threadIdx.x] = kept;
  }
  __syncthreads();
  for (int c = threadIdx.y; c < wide; c += blockDim.y)
    if (is_inside && s.places[c] == kBlock + c) *at(l, s.rows[c], column) = s.x[kBlock + c][threadIdx.x];
}

template <int kWide>
KD_INLINE void reduce_block(const Large& l, int p, int first, Exchange& s) {
  __shared__ alignas(16) Block t;
  for (int r = threadIdx.y; r < kWide; r += blockDim.y)
    if (threadIdx.x < kWide) t[r][threadIdx.x] = *at(l, p + r, p + threadIdx.x);
  __syncthreads();
  if (threadIdx.y == 0) solve_block<true, kWide>(t, s.x, kWide, true);
  __syncthreads();
  for (int c = threadIdx.y; c < kWide; c += blockDim.y)
    if (first + threadIdx.x < l.width) *at(l, p + c, first + threadIdx.x) = s.x[c][threadIdx.x];
  subtract_product<kWide>(l, p + kWide, l.rows, first, l.width, p, s.x);
}

// After the panel at a.stage: block y of the columns right of it, then of those left of it, which only exchange rows.
KD_INLINE void reduce_columns(const kd_arguments& a, const Large& l, int m, int n) {
  __shared__ alignas(16) Exchange s;
  if (*l.info) return;
  const int p = (int)a.stage, wide = panel_width(l.rows - p), count = min(wide, min(m, n) - p);
  const int right = blocks_of(l.width - p - wide);
  if ((int)blockIdx.y >= right) {
    const int first = (blockIdx.y - right) * kBlock;
    exchange(l, s, p, wide, count, first, p);
    for (int c = threadIdx.y; c < wide; c += blockDim.y)
      if (first + threadIdx.x < p) *at(l, p + c, first + threadIdx.x) = s.x[c][threadIdx.x];
    return;
  }
  const int first = p + wide + blockIdx.y * kBlock;
  exchange(l, s, p, wide, count, first, l.width);
  if (wide == kBlock)
    reduce_block<kBlock>(l, p, first, s);
  else if (wide == 2 * kPanel)
    reduce_block<2 * kPanel>(l, p, first, s);
  else
    reduce_block<kPanel>(l, p, first, s);
}

// ---- triangles

// T X = B for block y of the right sides, n rows.
template <bool forward>
KD_INLINE void substitute_columns(const Large& l, int n, bool is_unit) {
  __shared__ alignas(16) Block t, x;
  const int column = l.sides + blockIdx.y * kBlock, blocks = blocks_of(n);
  for (int step = 0; step < blocks; ++step) {
    const int p = (forward ? step : blocks - 1 - step) * kBlock;
    load_block(t, l, p, p);
    load_block(x, l, p, column);
    __syncthreads();
    if (threadIdx.y == 0) solve_block<forward, kBlock>(t, x, n - p, is_unit);
    __syncthreads();
    store_block(x, l, p, column);
    subtract_product<kBlock>(l, forward ? p + kBlock : 0, forward ? l.rows : p, column, l.width, p, x);
    __syncthreads();
  }
}

// Block y of k right sides to output 0, or NaN; and info to output 1.
KD_INLINE void store_columns(const kd_arguments& a, const Large& l, int n, int k, int failed) {
  float* const to = (float*)a.outputs[0] + (long)blockIdx.x * n * k;
  const int j = blockIdx.y * kBlock + threadIdx.x;
  if (blockIdx.y == 0 && thread_of() == 0) ((int*)a.outputs[1])[blockIdx.x] = failed;
  for (int i = threadIdx.y; i < n && j < k; i += blockDim.y)
    to[(long)i * k + j] = failed ? not_a_number() : *at(l, i, l.sides + j);
}
