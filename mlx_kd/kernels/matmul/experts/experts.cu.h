// clang-format off
// Products with chosen experts in CUDA, below codes.cu.h. Blocks share the tiles of a pair of token and expert
// in x; in y there is one for each pair. Inputs: x, ids, the arrays of each matrix, a bias of each.
//
// Macros: KD_FORM 0 single, 1 gated; XROWS 1.
#pragma once
#include "../rows/gate.cu.h"

constexpr int kFirst = 2, kPerMatrix = 3, kMatrices = KD_FORM == 1 ? 2 : 1;

struct Form {
  static __device__ long expert(const kd_arguments& a) { return ((const unsigned*)a.inputs[1])[blockIdx.y]; }
  static __device__ T* results(const kd_arguments& a) { return (T*)a.outputs[0] + blockIdx.y * a.dims[KD_DIM_N]; }

  static __device__ Run run(const kd_arguments& a) {
    const Run tiles = run_of((int)((a.dims[KD_DIM_N] + kRows - 1) / kRows));
    return {tiles.first, kMatrices * tiles.count, tiles.step};
  }

  static __device__ int row_of_results(const Run& run, int i) { return run.at(i / kRows) * kRows + i % kRows; }

  // No expert has an id from E on: its results are NaN, and nothing is read.
  static __device__ bool skips(const kd_arguments& a, const Run& run) {
    wait_for_others();  // for the ids
    if (expert(a) < a.dims[KD_DIM_E]) return false;
    for (int i = threadIdx.x; i < run.count / kMatrices * kRows; i += kThreads)
      if (const long n = row_of_results(run, i); n < a.dims[KD_DIM_N]) results(a)[n] = narrow(__int_as_float(0x7fc00000));
    return true;
  }

  static __device__ Inputs inputs(const kd_arguments& a) {
    const long row = a.dims[KD_DIM_per_pair] ? blockIdx.y : blockIdx.y / a.dims[KD_DIM_A];
    return {(const T*)a.inputs[0] + row * a.dims[KD_DIM_K], nullptr, (int)a.dims[KD_DIM_K], 1, 0.0f};
  }

  static __device__ Tile tile(const kd_arguments& a, const Run& run, int i) {
    const void* const* const arrays = a.inputs + kFirst + kPerMatrix * (i % kMatrices);
    const long first = expert(a) * a.dims[KD_DIM_N], K = a.dims[KD_DIM_K];
    const long scale_bytes = a.dims[KD_DIM_mode] == kAffine ? sizeof(T) : 1;
    const long scales = first * (K / a.dims[KD_DIM_group]) * scale_bytes;
    return {(const char*)arrays[0] + first * K * a.dims[KD_DIM_bits] / 8, (const char*)arrays[1] + scales,
            (const char*)arrays[2] + scales, run.at(i / kMatrices) * kRows, (int)a.dims[KD_DIM_N]};
  }

  // A product, and its sum with the bias, rounded.
  static __device__ float sum_of(const kd_arguments& a, const float* sums, int chunks, int tile, int matrix, int n) {
    const float product = product_of<kRows>(sums, chunks, tile, n % kRows, 0);
    if (!a.dims[KD_DIM_has_bias]) return product;
    const T* const biases = (const T*)a.inputs[kFirst + kPerMatrix * kMatrices + matrix];
    return rounded(product + widen(biases[expert(a) * a.dims[KD_DIM_N] + n]));
  }

  static __device__ void put(const kd_arguments& a, const Run& run, const float* sums, int chunks, int) {
    for (int i = threadIdx.x; i < run.count / kMatrices * kRows; i += kThreads) {
      const int n = row_of_results(run, i), tile = i / kRows * kMatrices;
      if (n >= a.dims[KD_DIM_N]) continue;
      float value = sum_of(a, sums, chunks, tile, 0, n);
#if KD_FORM == 1
      value = gated(value, sum_of(a, sums, chunks, tile + 1, 1, n), (int)a.dims[KD_DIM_activation]);
#endif
      results(a)[n] = narrow(value);
    }
  }
};
