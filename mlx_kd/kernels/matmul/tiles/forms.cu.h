// clang-format off
// The forms of products in CUDA: which rows the tiles are, and what becomes of their sums. Blocks share the
// tiles in x; in y there is one for XROWS rows of x.
//
// Below codes.cu.h (QUANTISED 1) or elements.cu.h. Macros: KD_FORM 0 single, 1 gated, 2 queries; QUANTISED.
#pragma once
#include "../rows/gate.cu.h"

constexpr int kPerMatrix = QUANTISED ? 3 : 1;  // arrays

// Tile `index` of a matrix of that many rows.
static __device__ Tile tile_of(const kd_arguments& a, int matrix, int index, int rows) {
  const void* const* const arrays = a.inputs + 1 + kPerMatrix * matrix;
#if QUANTISED
  return {arrays[0], arrays[1], arrays[2], index * kRows, rows};
#else
  return {arrays[0], nullptr, nullptr, index * kRows, rows};
#endif
}

// x of the block, with the input that is the norm's weight.
static __device__ Inputs inputs_of(const kd_arguments& a, int norm) {
  const long first = (long)blockIdx.y * XROWS, K = a.dims[KD_DIM_K];
  return {(const T*)a.inputs[0] + first * K, a.dims[KD_DIM_has_norm] ? (const T*)a.inputs[norm] : nullptr, (int)K,
          (int)min(a.dims[KD_DIM_M] - first, (long)XROWS), (float)a.scalars[KD_SCALAR_eps]};
}

// Every block has something to do.
struct Whole {
  static __device__ bool skips(const kd_arguments&, const Run&) { return false; }
};

#if KD_FORM == 1
// A run has pairs of tiles: those of the gate and of up.
struct Form : Whole {
  static constexpr int kNorm = 1 + 2 * kPerMatrix;
  static __device__ Inputs inputs(const kd_arguments& a) { return inputs_of(a, kNorm); }
  static __device__ Run run(const kd_arguments& a) {
    const Run pairs = run_of((int)((a.dims[KD_DIM_N] + kRows - 1) / kRows));
    return {pairs.first, 2 * pairs.count, pairs.step};
  }
  static __device__ Tile tile(const kd_arguments& a, const Run& run, int i) {
    return tile_of(a, i % 2, run.at(i / 2), (int)a.dims[KD_DIM_N]);
  }
  static __device__ void put(const kd_arguments& a, const Run& run, const float* sums, int chunks, int rows_of_x) {
    const int N = (int)a.dims[KD_DIM_N], each = run.count / 2 * kRows;
    for (int i = threadIdx.x; i < each * XROWS; i += kThreads) {
      const int m = i / each, pair = i / kRows % (run.count / 2), row = i % kRows;
      const int n = run.at(pair) * kRows + row;
      if (n >= N || m >= rows_of_x) continue;
      const float gate = product_of<kRows>(sums, chunks, 2 * pair, row, m);
      const float up = product_of<kRows>(sums, chunks, 2 * pair + 1, row, m);
      ((T*)a.outputs[0])[(long)(blockIdx.y * XROWS + m) * N + n] = narrow(activated(gate, (int)a.dims[KD_DIM_activation]) * up);
    }
  }
};
#elif KD_FORM == 2
// The tiles of queries, keys and values are counted on.
struct Form : Whole {
  static constexpr int kNorm = 1 + 3 * kPerMatrix;
  static __device__ Inputs inputs(const kd_arguments& a) { return inputs_of(a, kNorm); }
  struct Place {
    int matrix, index, rows;
  };
  static __device__ Run run(const kd_arguments& a) {
    int tiles = 0;
    for (const long rows : {a.dims[KD_DIM_Nq], a.dims[KD_DIM_Nk], a.dims[KD_DIM_Nv]}) tiles += (int)((rows + kRows - 1) / kRows);
    return run_of(tiles);
  }
  static __device__ Place place(const kd_arguments& a, int index) {
    const int rows[3] = {(int)a.dims[KD_DIM_Nq], (int)a.dims[KD_DIM_Nk], (int)a.dims[KD_DIM_Nv]};
#pragma unroll
    for (int matrix = 0; matrix < 2; ++matrix) {
      const int tiles = (rows[matrix] + kRows - 1) / kRows;
      if (index < tiles) return {matrix, index, rows[matrix]};
      index -= tiles;
    }
    return {2, index, rows[2]};
  }
  static __device__ Tile tile(const kd_arguments& a, const Run& run, int i) {
    const Place at = place(a, run.at(i));
    return tile_of(a, at.matrix, at.index, at.rows);
  }
  static __device__ void put(const kd_arguments& a, const Run& run, const float* sums, int chunks, int rows_of_x) {
    const int each = run.count * kRows;
    for (int i = threadIdx.x; i < each * XROWS; i += kThreads) {
      const int m = i / each, tile = i / kRows % run.count, row = i % kRows;
      const Place at = place(a, run.at(tile));
      const int n = at.index * kRows + row;
      if (n >= at.rows || m >= rows_of_x) continue;
      float value = product_of<kRows>(sums, chunks, tile, row, m);
      if (a.dims[KD_DIM_has_bias]) value += widen(((const T*)a.inputs[kNorm + 1 + at.matrix])[n]);
      ((T*)a.outputs[at.matrix])[(long)(blockIdx.y * XROWS + m) * at.rows + n] = narrow(value);
    }
  }
};
#else
struct Form : Whole {
  static constexpr int kNorm = 1 + kPerMatrix;
  static __device__ Inputs inputs(const kd_arguments& a) { return inputs_of(a, kNorm); }
  static __device__ Run run(const kd_arguments& a) { return run_of((int)((a.dims[KD_DIM_N] + kRows - 1) / kRows)); }
  static __device__ Tile tile(const kd_arguments& a, const Run& run, int i) {
    return tile_of(a, 0, run.at(i), (int)a.dims[KD_DIM_N]);
  }
  static __device__ void put(const kd_arguments& a, const Run& run, const float* sums, int chunks, int rows_of_x) {
    const int N = (int)a.dims[KD_DIM_N], each = run.count * kRows;
    for (int i = threadIdx.x; i < each * XROWS; i += kThreads) {
      const int m = i / each, tile = i / kRows % run.count, row = i % kRows;
      const int n = run.at(tile) * kRows + row;
      if (n >= N || m >= rows_of_x) continue;
      const long at = (long)(blockIdx.y * XROWS + m) * N + n;
      float value = product_of<kRows>(sums, chunks, tile, row, m);
      if (a.dims[KD_DIM_has_bias]) value = rounded(value + widen(((const T*)a.inputs[kNorm + 1])[n]));
      if (a.dims[KD_DIM_has_residual]) value += widen(((const T*)a.inputs[kNorm + 2])[at]);
      ((T*)a.outputs[0])[at] = narrow(value);
    }
  }
};
#endif
