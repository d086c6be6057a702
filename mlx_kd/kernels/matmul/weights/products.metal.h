// clang-format off
// What the Metal kernels of products have in common: who takes which rows, the norm of x, sums. A
// simdgroup takes ROWS rows of W and XROWS rows of x; SPLIT simdgroups, a team, share them and take K
// by turns. Macros: KD_DTYPE, KD_ALIGNED, VEC as packs.metal.h says, and ROWS, XROWS, SPLIT, THREADS.
#pragma once
#ifndef KD_DTYPE
#define KD_DTYPE 1  // of the arrays: 0 float, 1 half, 2 bfloat
#endif
#ifndef KD_ALIGNED
#define KD_ALIGNED 1  // 0: arrays start anywhere, 1: at a multiple of 16 bytes
#endif
#ifndef ROWS
#define ROWS 4  // rows of W of a simdgroup
#endif
#ifndef XROWS
#define XROWS 4  // rows of x of a simdgroup
#endif
#ifndef SPLIT
#define SPLIT 1  // simdgroups that share rows
#endif
#ifndef THREADS
#define THREADS 128  // of a threadgroup: a multiple of 32 SPLIT
#endif
#include "../../common/packs.metal.h"
#define SIMDS (THREADS / 32)
#define SUMS (ROWS * XROWS)               // of a simdgroup
#define BLOCK (SIMDS / SPLIT * ROWS)      // rows of W of a threadgroup
#define RESULTS (SIMDS / SPLIT * SUMS)    // of a threadgroup

// Where a simdgroup works: its first rows of W and of x, its part of K.
struct Place {
  uint row;
  uint x_row;
  uint part;
  uint lane;
};

static uint blocks_of(uint rows) {
  return (rows + BLOCK - 1) / BLOCK;
}

static uint x_blocks_of(uint rows) {
  return (rows + XROWS - 1) / XROWS;
}

static Place place_of(uint block, uint x_block, uint simdgroup, uint lane) {
  Place place;
  place.row = block * BLOCK + simdgroup / SPLIT * ROWS;
  place.x_row = x_block * XROWS;
  place.part = simdgroup % SPLIT;
  place.lane = lane;
  return place;
}

// y = T(w T(x scale)) of one row of x, as MLX rounds a norm, by all threads of a threadgroup.
static void normalise(const device T* x, const device T* w, uint K, float eps, device T* y,
                      threadgroup float* partial, uint index, uint lane, uint simdgroup) {
  float sum = 0.0f;
  for (uint i = index; i < K; i += THREADS) {
    const float value = float(x[i]);
    sum += value * value;
  }
  sum = simd_sum(sum);
  if (lane == 0) partial[simdgroup] = sum;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  sum = 0.0f;
  for (uint s = 0; s < SIMDS; ++s) sum += partial[s];
  const float scale = precise::rsqrt(sum / float(K) + eps);
  for (uint i = index; i < K; i += THREADS)
    y[i] = T(float(T(float(x[i]) * scale)) * float(w[i]));
}

struct Sums {
  float at[ROWS][XROWS];
};

static Sums no_sums() {
  Sums sums;
#pragma unroll
  for (uint r = 0; r < ROWS; ++r)
#pragma unroll
    for (uint m = 0; m < XROWS; ++m) sums.at[r][m] = 0.0f;
  return sums;
}

// Adds the lanes' sums; `totals` has SUMS of each simdgroup.
static void put_sums(Sums sums, Place place, uint M, uint simdgroup, threadgroup float* totals) {
#pragma unroll
  for (uint r = 0; r < ROWS; ++r)
#pragma unroll
    for (uint m = 0; m < XROWS; ++m)
      if (place.x_row + m < M) {
        const float sum = simd_sum(sums.at[r][m]);
        if (place.lane == 0) totals[simdgroup * SUMS + r * XROWS + m] = sum;
      }
}

// One of RESULTS, where it belongs: its product, rounded.
struct Result {
  uint row;
  uint x_row;
  float product;
};

static Result result_of(uint i, uint block, uint x_block, uint M, uint N, const threadgroup float* totals) {
  const uint team = i / SUMS;
  Result result;
  result.row = block * BLOCK + team * ROWS + i % SUMS / XROWS;
  result.x_row = x_block * XROWS + i % XROWS;
  float total = 0.0f;
  if (result.row < N && result.x_row < M)
    for (uint s = 0; s < SPLIT; ++s) total += totals[(team * SPLIT + s) * SUMS + i % SUMS];
  result.product = float(T(total));
  return result;
}
