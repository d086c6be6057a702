// matmul: y = act(alpha op(a) op(b) + beta c + bias) of a batch of matrices.
//
// A threadgroup takes TILE_M rows and TILE_N columns of y. TILE_K of op(a) and op(b) at a time go
// through threadgroup memory, whose rows are PAD elements longer than the tile so that they begin in
// different banks; with STAGES 2 the next ones are fetched while these are multiplied. The SIMD_ROWS by
// SIMD_COLUMNS simdgroups divide the tile, each into matrices of 8 x 8. SWIZZLE rows of tiles are taken
// column by column, so that threadgroups that run together share more of b.
//
// Grid: tiles of y, of all the batch, times THREADS in x. Threadgroups: THREADS = 32 SIMD_ROWS
// SIMD_COLUMNS.
#include <metal_stdlib>
using namespace metal;

#ifndef KD_DTYPE
#define KD_DTYPE 1  // of the arrays: 0 float, 1 half, 2 bfloat
#endif
#ifndef KD_ALIGNED
#define KD_ALIGNED 1  // 0: arrays start anywhere, 1: at a multiple of 16 bytes
#endif
#ifndef TILE_M
#define TILE_M 32  // rows of a tile: a multiple of 8 SIMD_ROWS
#endif
#ifndef TILE_N
#define TILE_N 32  // columns of a tile: a multiple of 8 SIMD_COLUMNS
#endif
#ifndef TILE_K
#define TILE_K 16  // of K at a time: a multiple of 8
#endif
#ifndef SIMD_ROWS
#define SIMD_ROWS 2
#endif
#ifndef SIMD_COLUMNS
#define SIMD_COLUMNS 2
#endif
#ifndef PAD
#define PAD 8  // elements behind each row in threadgroup memory
#endif
#ifndef STAGES
#define STAGES 1  // 2: double buffering
#endif
#ifndef SWIZZLE
#define SWIZZLE 1  // rows of tiles that are taken together
#endif
#ifndef FAST
#define FAST 0  // 1: fast::exp
#endif

#define VEC 1
#include "../../common/packs.metal.h"
#define SIMDS (SIMD_ROWS * SIMD_COLUMNS)
#define THREADS (32 * SIMDS)
#define ROWS (TILE_M / 8 / SIMD_ROWS)           // matrices of a simdgroup
#define COLUMNS (TILE_N / 8 / SIMD_COLUMNS)
#define LINE_A (TILE_K + PAD)                   // elements of a row in threadgroup memory
#define LINE_B (TILE_N + PAD)
#if FAST
#define EXP fast::exp
#else
#define EXP precise::exp
#endif

// 1 ReLU, 2 SiLU, 3 the tanh form of GELU.
static float activated(float x, int activation) {
  if (activation == 1) return x < 0.0f ? 0.0f : x;
  if (activation < 2) return x;
  const float inner = activation == 2 ? x : 1.5957691216f * (x + 0.044715f * (x * x * x));
  return x / (1.0f + EXP(-clamp(inner, -87.0f, 87.0f)));
}

// Rows [row, row + rows) and columns [column, column + columns) of a matrix, zeros where it has none,
// to lines of `line` elements. Neighbouring threads read neighbours in memory.
static void fetch(const device T* from, long stride, bool transposed, int row, int column, int all_rows,
                  int all_columns, int rows, int columns, int line, threadgroup T* to, int thread_index) {
  for (int e = thread_index; e < rows * columns; e += THREADS) {
    const int i = transposed ? e % rows : e / columns;
    const int j = transposed ? e / rows : e % columns;
    const bool is_there = row + i < all_rows && column + j < all_columns;
    const long at = transposed ? long(column + j) * stride + row + i : long(row + i) * stride + column + j;
    to[i * line + j] = is_there ? from[at] : T(0.0f);
  }
}

[[max_total_threads_per_threadgroup(THREADS)]] [[kernel]] void mlx_kd_matmul(
    const device T* a [[buffer(0)]],
    const device T* b [[buffer(1)]],
    const device T* c [[buffer(2)]],
    const device T* bias [[buffer(3)]],
    device T* y [[buffer(4)]],
    const constant long* a_strides [[buffer(5)]],
    const constant long* b_strides [[buffer(6)]],
    const constant long* c_strides [[buffer(7)]],
    constant float& alpha [[buffer(8)]],
    constant float& beta [[buffer(9)]],
    constant int& M [[buffer(10)]],
    constant int& N [[buffer(11)]],
    constant int& K [[buffer(12)]],
    constant int& transpose_a [[buffer(13)]],
    constant int& transpose_b [[buffer(14)]],
    constant int& activation [[buffer(15)]],
    constant int& has_c [[buffer(16)]],
    constant int& has_bias [[buffer(17)]],
    uint3 threadgroup_position_in_grid [[threadgroup_position_in_grid]],
    uint thread_index_in_threadgroup [[thread_index_in_threadgroup]],
    uint thread_index_in_simdgroup [[thread_index_in_simdgroup]],
    uint simdgroup_index_in_threadgroup [[simdgroup_index_in_threadgroup]]) {
  threadgroup T tiles_a[STAGES * TILE_M * LINE_A];
  threadgroup T tiles_b[STAGES * TILE_K * LINE_B];
  threadgroup float patches[SIMDS * 64];

  // The tile: rows of tiles in groups of SWIZZLE, the last group may have fewer.
  const int of_m = (M + TILE_M - 1) / TILE_M;
  const int of_n = (N + TILE_N - 1) / TILE_N;
  const int unit = int(threadgroup_position_in_grid.x);
  const long item = unit / (of_m * of_n);
  const int tile = unit % (of_m * of_n);
  const int first = tile / (SWIZZLE * of_n) * SWIZZLE;
  const int together = min(SWIZZLE, of_m - first);
  const int within = tile - first * of_n;
  const int row = (first + within % together) * TILE_M;
  const int column = within / together * TILE_N;

  const device T* from_a = a + item * a_strides[0];
  const device T* from_b = b + item * b_strides[0];
  const int index = int(thread_index_in_threadgroup);
  const int lane = int(thread_index_in_simdgroup);
  const int simd = int(simdgroup_index_in_threadgroup);
  const int own_row = simd / SIMD_COLUMNS * ROWS * 8;  // in the tile
  const int own_column = simd % SIMD_COLUMNS * COLUMNS * 8;

  simdgroup_float8x8 sums[ROWS][COLUMNS];
#pragma unroll
  for (int i = 0; i < ROWS; ++i)
#pragma unroll
    for (int j = 0; j < COLUMNS; ++j) sums[i][j] = make_filled_simdgroup_matrix<float, 8, 8>(0.0f);

  const int steps = (K + TILE_K - 1) / TILE_K;
  if (STAGES == 2) {
    fetch(from_a, a_strides[1], transpose_a != 0, row, 0, M, K, TILE_M, TILE_K, LINE_A, tiles_a, index);
    fetch(from_b, b_strides[1], transpose_b != 0, 0, column, K, N, TILE_K, TILE_N, LINE_B, tiles_b, index);
  }
  for (int step = 0; step < steps; ++step) {
    // With two stages the next part is fetched, into what was multiplied before the barrier.
    threadgroup_barrier(mem_flags::mem_threadgroup);
    const int next = STAGES == 2 ? step + 1 : step;
    const int k = next * TILE_K;
    if (next < steps) {
      fetch(from_a, a_strides[1], transpose_a != 0, row, k, M, K, TILE_M, TILE_K, LINE_A,
            tiles_a + next % STAGES * (TILE_M * LINE_A), index);
      fetch(from_b, b_strides[1], transpose_b != 0, k, column, K, N, TILE_K, TILE_N, LINE_B,
            tiles_b + next % STAGES * (TILE_K * LINE_B), index);
    }
    if (STAGES == 1) threadgroup_barrier(mem_flags::mem_threadgroup);
    const threadgroup T* left = tiles_a + step % STAGES * (TILE_M * LINE_A) + own_row * LINE_A;
    const threadgroup T* right = tiles_b + step % STAGES * (TILE_K * LINE_B) + own_column;
#pragma unroll
    for (int part = 0; part < TILE_K; part += 8) {
      simdgroup_matrix<T, 8, 8> rows[ROWS];
#pragma unroll
      for (int i = 0; i < ROWS; ++i) simdgroup_load(rows[i], left + i * 8 * LINE_A + part, LINE_A);
#pragma unroll
      for (int j = 0; j < COLUMNS; ++j) {
        simdgroup_matrix<T, 8, 8> columns;
        simdgroup_load(columns, right + part * LINE_B + j * 8, LINE_B);
#pragma unroll
        for (int i = 0; i < ROWS; ++i)
          simdgroup_multiply_accumulate(sums[i][j], rows[i], columns, sums[i][j]);
      }
    }
  }

  threadgroup float* patch = patches + simd * 64;
  for (int i = 0; i < ROWS; ++i)
    for (int j = 0; j < COLUMNS; ++j) {
      simdgroup_barrier(mem_flags::mem_threadgroup);
      simdgroup_store(sums[i][j], patch, 8);
      simdgroup_barrier(mem_flags::mem_threadgroup);
      for (int e = lane; e < 64; e += 32) {
        const int r = row + own_row + i * 8 + e / 8;
        const int n = column + own_column + j * 8 + e % 8;
        if (r < M && n < N) {
          float value = alpha * patch[e];
          if (has_c != 0) value += beta * float(c[item * c_strides[0] + long(r) * c_strides[1] + n]);
          if (has_bias != 0) value += float(bias[n]);
          y[(item * M + r) * N + n] = T(activated(value, activation));
        }
      }
    }
}
