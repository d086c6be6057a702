// clang-format off
// Products of many tokens with chosen experts in CUDA. Pairs of token and expert are grouped by expert, and the rows
// of x of an expert are multiplied together.
//
// A slot is the place of a pair: those of an expert lie one after the other, from a multiple of 8 on. A tile is up
// to kMostTokens slots of one expert; the pairs of an expert are shared evenly by its tiles.
//
// Scratch: 0 the groups, 1 rows of x by slot, 2 sums of x over the columns that have one scale, by column and slot.
// Inputs: x, ids, the arrays of each matrix, a bias of each. Below codes.cu.h (QUANTISED 1) or weights/tiles.cu.h.
//
// Macros: KD_FORM 0 single, 1 gated; QUANTISED.
#pragma once
#include "../../common/alone.cu.h"
#include "../rows/gate.cu.h"

constexpr int kFirst = 2, kPerMatrix = QUANTISED ? 3 : 1, kMatrices = KD_FORM == 1 ? 2 : 1;
constexpr int kMostTokens = 96, kGroupThreads = 1024;

// Slots of one expert.
struct ExpertTile {
  int expert, first, count, unused;
};

struct Groups {
  int* count;         // of the tiles
  ExpertTile* tiles;
  int* places;        // (E): of each expert while pairs are counted and put
  int* pairs;         // (slots): -1 where there is none
  long slots;

  __device__ explicit Groups(const kd_arguments& a) {
    const long pairs_in_all = a.dims[KD_DIM_M] * a.dims[KD_DIM_A], experts = a.dims[KD_DIM_E];
    const long with_pairs = min(pairs_in_all, experts);
    slots = (pairs_in_all + 7 * with_pairs + 7) / 8 * 8;
    count = (int*)a.scratch[0];
    tiles = (ExpertTile*)(count + 4);
    places = (int*)(tiles + pairs_in_all / kMostTokens + with_pairs);
    pairs = places + experts;
  }
};

// How many slots of an expert with so many pairs a tile has.
static __device__ int slots_of_tile(int pairs) {
  const int tiles = (pairs + kMostTokens - 1) / kMostTokens;
  return tiles == 0 ? 8 : ((pairs + tiles - 1) / tiles + 7) / 8 * 8;
}

// Results of a pair whose id is that of no expert.
static __device__ void put_nan(const kd_arguments& a, long pair) {
  const long N = a.dims[KD_DIM_N];
  for (long n = 0; n < N; ++n) ((T*)a.outputs[0])[pair * N + n] = narrow(__int_as_float(0x7fc00000));
}

// Sums over the threads of the block up to this one; `all`: over all of them.
static __device__ int2 sums_before(int2 own, int2& all) {
  __shared__ int2 of_warps[kGroupThreads / 32];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  int2 sum = own;
  for (int step = 1; step < 32; step *= 2) {
    const int x = __shfl_up_sync(kAll, sum.x, step), y = __shfl_up_sync(kAll, sum.y, step);
    if (lane >= step) sum.x += x, sum.y += y;
  }
  if (lane == 31) of_warps[warp] = sum;
  __syncthreads();
  all = make_int2(0, 0);
  for (int i = 0; i < kGroupThreads / 32; ++i) {
    if (i < warp) sum.x += of_warps[i].x, sum.y += of_warps[i].y;
    all.x += of_warps[i].x, all.y += of_warps[i].y;
  }
  __syncthreads();
  return make_int2(sum.x - own.x, sum.y - own.y);
}

// By one block: pairs are counted, then put. In which order an expert's pairs lie does not change a result.
static __device__ void group_pairs(const kd_arguments& a) {
  const Groups groups(a);
  const long pairs = a.dims[KD_DIM_M] * a.dims[KD_DIM_A], experts = a.dims[KD_DIM_E];
  const unsigned* const ids = (const unsigned*)a.inputs[1];
  for (long i = threadIdx.x; i < experts; i += kGroupThreads) groups.places[i] = 0;
  for (long i = threadIdx.x; i < groups.slots; i += kGroupThreads) groups.pairs[i] = -1;
  __syncthreads();
  for (long pair = threadIdx.x; pair < pairs; pair += kGroupThreads)
    if (ids[pair] < experts) atomicAdd(groups.places + ids[pair], 1);
    else put_nan(a, pair);
  __syncthreads();
  int slots = 0, tiles = 0;  // of the experts before
  for (long first = 0; first < experts; first += kGroupThreads) {
    const long expert = first + threadIdx.x;
    const int count = expert < experts ? __ldcg(groups.places + expert) : 0, each = slots_of_tile(count);
    const int2 own = make_int2((count + 7) / 8 * 8, (count + each - 1) / each);
    int2 all;
    int2 before = sums_before(own, all);
    before.x += slots, before.y += tiles;
    slots += all.x, tiles += all.y;
    if (expert < experts) groups.places[expert] = before.x;
    for (int i = 0; i < own.y; ++i)
      groups.tiles[before.y + i] = {(int)expert, before.x + i * each, min(each, count - i * each), 0};
  }
  if (threadIdx.x == 0) *groups.count = tiles;
  __syncthreads();
  for (long pair = threadIdx.x; pair < pairs; pair += kGroupThreads)
    if (ids[pair] < experts) groups.pairs[atomicAdd(groups.places + ids[pair], 1)] = (int)pair;
}

static __device__ const T* row_of_pair(const kd_arguments& a, long pair) {
  return (const T*)a.inputs[0] + (a.dims[KD_DIM_per_pair] ? pair : pair / a.dims[KD_DIM_A]) * a.dims[KD_DIM_K];
}

// A product of row n of an expert's matrix as it is stored: rounded, and once more with its bias.
static __device__ float stored_sum(const kd_arguments& a, float sum, long expert, int matrix, long n) {
  if (!a.dims[KD_DIM_has_bias]) return rounded(sum);
  const T* const biases = (const T*)a.inputs[kFirst + kPerMatrix * kMatrices + matrix];
  return rounded(rounded(sum) + widen(biases[expert * a.dims[KD_DIM_N] + n]));
}

// Of a single form the result is `first` alone.
static __device__ T result_of(const kd_arguments& a, float first, float second, long expert, long n) {
  const float value = stored_sum(a, first, expert, 0, n);
#if KD_FORM == 1
  return narrow(gated(value, stored_sum(a, second, expert, 1, n), (int)a.dims[KD_DIM_activation]));
#else
  return narrow(value);
#endif
}

// --- any size, type and format ----------------------------------------------------------------
//
// A block has 32 slots of a tile at a time and 64 rows of W; W is decoded to float.

constexpr int kAnyThreads = 256, kAnyRows = 64, kAnySlots = 32, kAnyDepth = 16;

struct WideRow {
  const void *codes, *scales, *biases;
  int bits, group, mode;

  // Of a row of an expert's matrix; scales of no matrix are not read.
  __device__ WideRow(const kd_arguments& a, int matrix, long row) : scales(nullptr), biases(nullptr), bits(0), group(1), mode(0) {
    const void* const* const arrays = a.inputs + kFirst + kPerMatrix * matrix;
    const long K = a.dims[KD_DIM_K];
#if QUANTISED
    bits = (int)a.dims[KD_DIM_bits], group = (int)a.dims[KD_DIM_group], mode = (int)a.dims[KD_DIM_mode];
    const long first = row * (K / group) * (mode == kAffine ? (long)sizeof(T) : 1);
    codes = (const char*)arrays[0] + row * K * bits / 8;
    scales = (const char*)arrays[1] + first, biases = (const char*)arrays[2] + first;
#else
    codes = (const T*)arrays[0] + row * K;
#endif
  }

  __device__ float at(int k) const {
#if QUANTISED
    const unsigned code = code_of((const unsigned char*)codes, k, bits);
    if (mode == kAffine) return fmaf(widen(((const T*)scales)[k / group]), float(code), widen(((const T*)biases)[k / group]));
    const unsigned scale = ((const unsigned char*)scales)[k / group];
    return (mode == kNvfp4 ? float8(scale) : power_of_two(scale)) * (mode == kMxfp8 ? float8(code) : float4_of(code));
#else
    return widen(((const T*)codes)[k]);
#endif
  }
};

static __device__ void multiply_any(const kd_arguments& a) {
  __shared__ float of_x[kAnyDepth][kAnySlots + 2], of_w[kMatrices][kAnyDepth][kAnyRows + 4];
  const Groups groups(a);
  if (blockIdx.x >= *groups.count) return;
  const ExpertTile tile = groups.tiles[blockIdx.x];
  const long N = a.dims[KD_DIM_N], first_row = blockIdx.y * (long)kAnyRows;
  const int K = (int)a.dims[KD_DIM_K], slot = threadIdx.x / 16 * 2, row = threadIdx.x % 16 * 4;
  for (int first = 0; first < tile.count; first += kAnySlots) {
    float sums[kMatrices][2][4] = {};
    for (int k = 0; k < K; k += kAnyDepth) {
      __syncthreads();
      for (int i = threadIdx.x; i < kAnySlots * kAnyDepth; i += kAnyThreads) {
        const int own = i / kAnyDepth, d = i % kAnyDepth;
        const bool is_there = first + own < tile.count && k + d < K;
        of_x[d][own] = is_there ? widen(row_of_pair(a, groups.pairs[tile.first + first + own])[k + d]) : 0.0f;
      }
      for (int i = threadIdx.x; i < kMatrices * kAnyRows * kAnyDepth; i += kAnyThreads) {
        const int matrix = i / (kAnyRows * kAnyDepth), own = i / kAnyDepth % kAnyRows, d = i % kAnyDepth;
        const bool is_there = first_row + own < N && k + d < K;
        of_w[matrix][d][own] = is_there ? WideRow(a, matrix, tile.expert * N + first_row + own).at(k + d) : 0.0f;
      }
      __syncthreads();
#pragma unroll 4
      for (int d = 0; d < kAnyDepth; ++d)
#pragma unroll
        for (int matrix = 0; matrix < kMatrices; ++matrix)
#pragma unroll
          for (int i = 0; i < 2; ++i)
#pragma unroll
            for (int j = 0; j < 4; ++j)
              sums[matrix][i][j] = fmaf(of_x[d][slot + i], of_w[matrix][d][row + j], sums[matrix][i][j]);
    }
    for (int i = 0; i < 2; ++i)
      for (int j = 0; j < 4; ++j) {
        const long n = first_row + row + j;
        if (first + slot + i >= tile.count || n >= N) continue;
        const long pair = groups.pairs[tile.first + first + slot + i];
        ((T*)a.outputs[0])[pair * N + n] = result_of(a, sums[0][i][j], sums[kMatrices - 1][i][j], tile.expert, n);
      }
  }
}

#define KD_GROUPING_KERNELS(name)                                                                                \
  KD_WHERE_WANTED(name, extern "C" __global__ void __launch_bounds__(kGroupThreads)                              \
                            name(const __grid_constant__ kd_arguments a) { wait_for_others(); group_pairs(a); }) \
  KD_WHERE_WANTED(name##_any, extern "C" __global__ void __launch_bounds__(kAnyThreads)                          \
                                  name##_any(const __grid_constant__ kd_arguments a) { wait_for_others(); multiply_any(a); })
