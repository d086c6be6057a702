// clang-format off
// Products of x with rows of W that are elements of T. A warp takes ROWS rows and a chunk of K: UNROLL
// loads of 16 bytes of each row and lane, all requested before the chunk before them is used.
//
// Elements of 16 bits are multiplied on tensor cores. What the lanes of a warp have of a row of W are 8 pieces
// of 32 elements; they are 8 rows of A, and the same 8 pieces of x are the columns of B: the sums of the row are
// on the diagonal of the result, and the other sums are not used. (In a chain of a decoder's products on an H200
// 1.5 % less time than sums in float32 of the same tiles, and 0 to 2 % less by the chunk that is requested ahead.)
#pragma once
#ifndef ROWS
#define ROWS 2  // of W of a tile
#endif
#include "../../common/mma.cu.h"
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

// Of the rows of a tile with one row of x each: added by lane, summed over the lanes at the end.
static __device__ void put_sums(float (&sums)[ROWS][XROWS], float* results, int at) {
#pragma unroll
  for (int r = 0; r < ROWS; ++r)
#pragma unroll
    for (int m = 0; m < XROWS; ++m) {
      sums[r][m] = sum_of_lanes(sums[r][m]);
      if (threadIdx.x % 32 == 0) results[(at * ROWS + r) * XROWS + m] = sums[r][m];
    }
}

#if KD_DTYPE == 0
struct Sums {
  float of[ROWS][XROWS] = {};

  // A pack of x, which has been through the norm.
  __device__ void add(const Pack& x, const uint4 (&packs)[ROWS][UNROLL], int u, int m) {
#pragma unroll
    for (int r = 0; r < ROWS; ++r) {
      Pack w;
      w.bits = packs[r][u];
#pragma unroll
      for (int v = 0; v < kVec; ++v) of[r][m] += widen(w.at[v]) * widen(x.at[v]);
    }
  }
  __device__ void put(float* results, int at) { put_sums(of, results, at); }
};
#else
struct Sums {
  static constexpr int kPairs = (ROWS + 1) / 2;  // of rows of W: rows 0 to 7 of A, and 8 to 15
  float products[kPairs][XROWS][4] = {};

  __device__ void add(const Pack& x, const uint4 (&packs)[ROWS][UNROLL], int u, int m) {
#pragma unroll
    for (int p = 0; p < kPairs; ++p) {
      const bool has_odd = 2 * p + 1 < ROWS;
      const uint4 even = packs[2 * p][u], odd = has_odd ? packs[(2 * p + 1) % ROWS][u] : make_uint4(0, 0, 0, 0);
      multiply_add(products[p][m], even.x, odd.x, even.y, odd.y, x.bits.x, x.bits.y);
      multiply_add(products[p][m], even.z, odd.z, even.w, odd.w, x.bits.z, x.bits.w);
    }
  }

  // A lane has columns 2 quad and 2 quad + 1 of rows g and g + 8: what is on the diagonal there, or 0.
  __device__ void put(float* results, int at) {
    const int g = threadIdx.x % 32 / 4, quad = threadIdx.x % 4;
    float of[ROWS][XROWS];
#pragma unroll
    for (int r = 0; r < ROWS; ++r)
#pragma unroll
      for (int m = 0; m < XROWS; ++m) {
        const float(&c)[4] = products[r / 2][m];
        of[r][m] = g / 2 != quad ? 0.0f : g % 2 ? c[r % 2 * 2 + 1] : c[r % 2 * 2];
      }
    put_sums(of, results, at);
  }
};
#endif

static __device__ Pack normed_pack(Pack x, const Inputs& in, float scale, int k) {
  if (in.weight == nullptr) return x;
  Pack weight;
  weight.bits = __ldg((const uint4*)(in.weight + k));
#pragma unroll
  for (int v = 0; v < kVec; ++v) x.at[v] = narrow(normed(widen(x.at[v]), scale, widen(weight.at[v])));
  return x;
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
  Chunk chunk[2];
  // The first weights are on their way while x is prepared.
  const Item first = item_of(threadIdx.x / 32, chunks);
  if (first.tile < run.count) load(chunk[0], Form::tile(a, run, first.tile), in.K, first.chunk);
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
  Item here = first;
  while (here.tile < run.count)
#pragma unroll
    for (int turn = 0; turn < 2; ++turn) {
      if (here.tile >= run.count) break;
      const Item next = next_of(here, chunks);
      if (next.tile < run.count) load(chunk[1 - turn], Form::tile(a, run, next.tile), in.K, next.chunk);
      Sums sums;
#pragma unroll
      for (int u = 0; u < UNROLL; ++u)
#pragma unroll
        for (int m = 0; m < XROWS; ++m) {
          const int i = here.chunk * (kChunk / kVec) + u * 32 + threadIdx.x % 32;
          Pack of_x;
          of_x.bits = make_uint4(0, 0, 0, 0);
#if KD_DTYPE != 0
          if (i < packs && m < in.rows) of_x.bits = x[m * packs + i];
#else
          if (i < packs && m < in.rows) {
            of_x.bits = ((const uint4*)(in.x + (long)m * in.K))[i];
            of_x = normed_pack(of_x, in, scales[m], i * kVec);
          }
#endif
          sums.add(of_x, chunk[turn].packs, u, m);
        }
      sums.put(results, here.tile * chunks + here.chunk);
      here = next;
    }
  __syncthreads();
  return chunks;
}
