// clang-format off
// What the CUDA kernels of products have in common. The blocks of the grid share the tiles of kRows rows
// of W; a block takes some of them and XROWS rows of x. Its warps share the chunks of K of its tiles, and
// the sums of chunks are added in order.
//
// Macros: KD_DTYPE, and the knobs WARPS, UNROLL, XROWS, CACHE.
#pragma once
#ifndef WARPS
#define WARPS 8  // of a block
#endif
#ifndef UNROLL
#define UNROLL 4  // loads of a row that are requested together
#endif
#ifndef XROWS
#define XROWS 1  // rows of x of a block
#endif
#ifndef CACHE
#define CACHE 0  // W is read: 0 as any array, 1 as what is used once
#endif

#include "../../common/early.cu.h"
#include "../../common/kd_arguments.h"
#include "../../common/numbers.cu.h"

constexpr int kThreads = 32 * WARPS;
constexpr unsigned kAll = 0xffffffffu;
constexpr int kVec = 16 / int(sizeof(T));  // elements of 16 bytes

// Of W: where a tile starts, and how many rows its matrix has.
struct Tile {
  const void* codes;  // or elements
  const void* scales;
  const void* biases;
  int row, rows;
};

static __device__ float rounded(float x) {
  return widen(narrow(x));
}

union Pack {
  uint4 bits;
  T at[kVec];
};

// 16 bytes of W.
static __device__ uint4 load_weights(const void* from) {
#if CACHE
  return __ldcs((const uint4*)from);
#else
  return __ldg((const uint4*)from);
#endif
}

static __device__ float sum_of_lanes(float x) {
  for (int other = 16; other > 0; other /= 2) x += __shfl_xor_sync(kAll, x, other);
  return x;
}

// The rows of x that a block takes, and the norm that they go through: x of a row is T(T(x scale) w).
struct Inputs {
  const T* x;      // (XROWS, K), of which `rows` are there
  const T* weight; // of the norm, or null
  int K, rows;
  float eps;
};

static __device__ float normed(float x, float scale, float weight) {
  return rounded(rounded(x * scale) * weight);
}

// Scales of the norm of each row, by all threads; 1 where there is no norm. x may be read from here on.
static __device__ void norm_scales(const Inputs& in, float (&scales)[XROWS]) {
  __shared__ float partial[XROWS][WARPS];
  const bool whole = in.K % kVec == 0;
  for (int i = threadIdx.x; in.weight != nullptr && whole && i < in.K / kVec; i += kThreads)
    asm volatile("prefetch.global.L1 [%0];" ::"l"((const uint4*)in.weight + i));
  wait_for_others();
  if (in.weight == nullptr) {
#pragma unroll
    for (int m = 0; m < XROWS; ++m) scales[m] = 1.0f;
    return;
  }
#pragma unroll
  for (int m = 0; m < XROWS; ++m) {
    float sum = 0.0f;
    const T* const x = in.x + (long)m * in.K;
    for (int i = threadIdx.x; whole && m < in.rows && i < in.K / kVec; i += kThreads) {
      Pack pack;
      pack.bits = ((const uint4*)x)[i];
#pragma unroll
      for (int v = 0; v < kVec; ++v) sum += widen(pack.at[v]) * widen(pack.at[v]);
    }
    for (int i = threadIdx.x; !whole && m < in.rows && i < in.K; i += kThreads) sum += widen(x[i]) * widen(x[i]);
    sum = sum_of_lanes(sum);
    if (threadIdx.x % 32 == 0) partial[m][threadIdx.x / 32] = sum;
  }
  __syncthreads();
#pragma unroll
  for (int m = 0; m < XROWS; ++m) {
    float sum = 0.0f;
#pragma unroll
    for (int w = 0; w < WARPS; ++w) sum += partial[m][w];
    scales[m] = 1.0f / sqrtf(sum / float(in.K) + in.eps);
  }
}

// The tiles of a block. Their neighbours are those of other blocks: what the chip reads at one time lies close
// together, in few pages of memory.
struct Run {
  int first, count, step;
  __device__ int at(int i) const { return first + i * step; }
};

static __device__ Run run_of(int tiles) {
  const int first = blockIdx.x, step = gridDim.x;
  return {first, (tiles - first + step - 1) / step, step};
}

// A chunk of a tile of the run; the warps of a block take them in turn.
struct Item {
  int tile, chunk;
};

static __device__ Item item_of(int index, int chunks) {
  return {index / chunks, index % chunks};
}

static __device__ Item next_of(Item item, int chunks) {
  item.chunk += WARPS;
  while (item.chunk >= chunks) item.chunk -= chunks, ++item.tile;
  return item;
}

// Sums of the chunks of a tile: (chunk, row of the tile, row of x), added in order and rounded.
template <int kRows>
static __device__ float product_of(const float* sums, int chunks, int tile, int row, int m) {
  float sum = 0.0f;
#pragma unroll 8
  for (int c = 0; c < chunks; ++c) sum += sums[((tile * chunks + c) * kRows + row) * XROWS + m];
  return rounded(sum);
}
