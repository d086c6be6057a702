// clang-format off
// Products of x with rows of W that are elements of T. A warp takes ROWS rows and a chunk of K: UNROLL
// loads of 16 bytes of each row and lane, all requested before the first is used.
#pragma once
#ifndef ROWS
#define ROWS 4  // of W of a tile
#endif
#include "tiles.cu.h"

constexpr int kRows = ROWS;
constexpr int kStep = 32 * kVec, kChunk = UNROLL * kStep;

struct Chunk {
  uint4 packs[ROWS][UNROLL];
};

static __device__ const T* row_of(const Tile& tile, int r, int K) {
  return (const T*)tile.codes + (long)min(tile.row + r, tile.rows - 1) * K;
}

// Of rows whose packs start at multiples of 16 bytes.
static __device__ void load(Chunk& chunk, const Tile& tile, int K, int index) {
#pragma unroll
  for (int r = 0; r < ROWS; ++r)
#pragma unroll
    for (int u = 0; u < UNROLL; ++u) {
      const int k = index * kChunk + u * kStep + threadIdx.x % 32 * kVec;
      chunk.packs[r][u] = k < K ? load_weights(row_of(tile, r, K) + k) : make_uint4(0, 0, 0, 0);
    }
}

// A pack of x; `x` has been through the norm.
static __device__ void multiply_pack(const Pack& x, const uint4 (&packs)[ROWS][UNROLL], int u, int m,
                                     float (&sums)[ROWS][XROWS]) {
#pragma unroll
  for (int r = 0; r < ROWS; ++r) {
    Pack w;
    w.bits = packs[r][u];
#pragma unroll
    for (int v = 0; v < kVec; ++v) sums[r][m] += widen(w.at[v]) * widen(x.at[v]);
  }
}

static __device__ Pack normed_pack(Pack x, const Inputs& in, float scale, int k) {
  if (in.weight == nullptr) return x;
  Pack weight;
  weight.bits = __ldg((const uint4*)(in.weight + k));
#pragma unroll
  for (int v = 0; v < kVec; ++v) x.at[v] = narrow(normed(widen(x.at[v]), scale, widen(weight.at[v])));
  return x;
}

static __device__ void put_sums(float (&sums)[ROWS][XROWS], float* results, int at) {
#pragma unroll
  for (int r = 0; r < ROWS; ++r)
#pragma unroll
    for (int m = 0; m < XROWS; ++m) {
      sums[r][m] = sum_of_lanes(sums[r][m]);
      if (threadIdx.x % 32 == 0) results[(at * ROWS + r) * XROWS + m] = sums[r][m];
    }
}

// Rows that start anywhere, an element at a time.
template <class Form>
static __device__ void add_singles(const kd_arguments& a, const Inputs& in, const Run& run, float* results, int chunks) {
  float scales[XROWS];
  norm_scales(in, scales);
  for (Item at = item_of(threadIdx.x / 32, chunks); at.tile < run.count; at = next_of(at, chunks)) {
    const Tile tile = Form::tile(a, run, at.tile);
    const int begin = at.chunk * kChunk, end = min(begin + kChunk, in.K);
    float sums[ROWS][XROWS] = {};
    for (int k = begin + threadIdx.x % 32; k < end; k += 32)
#pragma unroll
      for (int m = 0; m < XROWS; ++m) {
        if (m >= in.rows) break;
        float x = widen(in.x[(long)m * in.K + k]);
        if (in.weight != nullptr) x = normed(x, scales[m], widen(in.weight[k]));
#pragma unroll
        for (int r = 0; r < ROWS; ++r) sums[r][m] += widen(row_of(tile, r, in.K)[k]) * x;
      }
    put_sums(sums, results, at.tile * chunks + at.chunk);
  }
}

// The sums of the tiles of the run; `Form::tile` says which they are. Returns how many chunks each has.
template <class Form>
static __device__ int add_products(const kd_arguments& a, const Inputs& in, const Run& run, char* shared, float*& results) {
  const int chunks = (in.K + kChunk - 1) / kChunk;
  results = (float*)shared;
  if (in.K % kVec != 0) {
    add_singles<Form>(a, in, run, results, chunks);
    __syncthreads();
    return chunks;
  }
  Chunk chunk;
  // The first weights are on their way while x is prepared.
  const Item first = item_of(threadIdx.x / 32, chunks);
  if (first.tile < run.count) load(chunk, Form::tile(a, run, first.tile), in.K, first.chunk);
  float scales[XROWS];
  norm_scales(in, scales);
  const int packs = in.K / kVec;
#if KD_DTYPE != 0
  uint4* const x = (uint4*)(shared + (run.count * chunks * ROWS * XROWS + 3) / 4 * 16);
  for (int m = 0; m < XROWS && m < in.rows; ++m)
    for (int i = threadIdx.x; i < packs; i += kThreads) {
      Pack pack;
      pack.bits = ((const uint4*)(in.x + (long)m * in.K))[i];
      x[m * packs + i] = normed_pack(pack, in, scales[m], i * kVec).bits;
    }
  __syncthreads();
#endif
  for (Item at = first; at.tile < run.count; at = next_of(at, chunks)) {
    if (at.tile != first.tile || at.chunk != first.chunk)
      load(chunk, Form::tile(a, run, at.tile), in.K, at.chunk);
    float sums[ROWS][XROWS] = {};
#pragma unroll
    for (int u = 0; u < UNROLL; ++u)
#pragma unroll
      for (int m = 0; m < XROWS; ++m) {
        const int i = at.chunk * (kChunk / kVec) + u * 32 + threadIdx.x % 32;
        if (i >= packs || m >= in.rows) continue;
        Pack of_x;
#if KD_DTYPE != 0
        of_x.bits = x[m * packs + i];
#else
        of_x.bits = ((const uint4*)(in.x + (long)m * in.K))[i];
        of_x = normed_pack(of_x, in, scales[m], i * kVec);
#endif
        multiply_pack(of_x, chunk.packs, u, m, sums);
      }
    put_sums(sums, results, at.tile * chunks + at.chunk);
  }
  __syncthreads();
  return chunks;
}
