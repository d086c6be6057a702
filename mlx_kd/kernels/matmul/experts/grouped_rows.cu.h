// clang-format off
// Rows of x by slot (grouped.cu.h), for tensor cores. For codes of 4 bits in their order: in a block of 32 columns
// number 16 t + 8 h + 2 q + i of a row is that of column 8 q + 2 t + h + 4 i, as the codes of word q of a row of W lie.
#pragma once
#include "grouped.cu.h"

constexpr int kRowThreads = 256;

// Eight numbers from `at` of a row on.
static __device__ uint4 pack_of(const T* row, int at) {
  return row == nullptr ? make_uint4(0, 0, 0, 0) : *(const uint4*)(row + at);
}

static __device__ void copy_rows(const kd_arguments& a) {
  const Groups groups(a);
  const int packs = (int)a.dims[KD_DIM_K] / 8;
  for (long i = blockIdx.x * (long)kRowThreads + threadIdx.x; i < groups.slots * packs; i += (long)gridDim.x * kRowThreads) {
    const int pair = groups.pairs[i / packs];
    ((uint4*)a.scratch[1])[i] = pack_of(pair < 0 ? nullptr : row_of_pair(a, pair), int(i % packs) * 8);
  }
}

#if QUANTISED
// A thread has a block of 32 columns of a slot; K is a multiple of 128, and there are whole warps of blocks.
static __device__ void prepare_slots(const kd_arguments& a) {
  const Groups groups(a);
  const int blocks = (int)a.dims[KD_DIM_K] / 32, of_group = (int)a.dims[KD_DIM_group] / 32;
  for (long i = blockIdx.x * (long)kRowThreads + threadIdx.x; i < groups.slots * blocks; i += (long)gridDim.x * kRowThreads) {
    const long slot = i / blocks;
    const int block = int(i % blocks), pair = groups.pairs[slot];
    const T* const row = pair < 0 ? nullptr : row_of_pair(a, pair);
    Pack from[4], to[4];
    float sum = 0.0f;
#pragma unroll
    for (int q = 0; q < 4; ++q) {
      from[q].bits = pack_of(row, 32 * block + 8 * q);
#pragma unroll
      for (int v = 0; v < 8; ++v) sum += widen(from[q].at[v]), to[v % 4].at[2 * q + v / 4] = from[q].at[v];
    }
#pragma unroll
    for (int v = 0; v < 4; ++v) ((uint4*)a.scratch[1])[4 * i + v] = to[v].bits;
    for (int other = of_group / 2; other > 0; other /= 2) sum += __shfl_xor_sync(kAll, sum, other);
    if (block % of_group == 0) ((float*)a.scratch[2])[block / of_group * groups.slots + slot] = sum;
  }
}
#endif
