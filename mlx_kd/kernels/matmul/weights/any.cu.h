// clang-format off
// Products of x with quantised rows of W in any format and type: a lane takes 16 codes of a row, in float.
#pragma once
#include "tiles.cu.h"

enum { kAffine, kMxfp4, kMxfp8, kNvfp4 };
constexpr int kRows = 16;  // of a tile

static __device__ float power_of_two(unsigned code) {
  return __uint_as_float(code == 0 ? 0x00400000u : code == 255 ? 0x7fc00000u : code << 23);
}

static __device__ float float8(unsigned code) {
  if ((code & 0x7f) == 0x7f) return __uint_as_float(0x7fc00000u);
  return __uint_as_float((code & 0x80) << 24 | (code & 0x7f) << 20) * 0x1p120f;
}

static __device__ float float4_of(unsigned code) {
  return __uint_as_float((code & 8) << 28 | (code & 7) << 22) * 0x1p126f;
}

struct Any {
  int bits, group, mode;
};

// Code `at` of a row, a stream of bits from the lowest on.
static __device__ unsigned code_of(const unsigned char* row, int at, int bits) {
  const unsigned from = (unsigned)at * bits, by = from % 8;
  unsigned code = row[from / 8] >> by;
  if (by + bits > 8) code |= (unsigned)row[from / 8 + 1] << (8 - by);
  return code & ((1u << bits) - 1);
}

// 16 columns of one row from k on, which have one scale, times XROWS rows of x.
static __device__ void multiply_codes(const Tile& tile, const Inputs& in, const float (&scales)[XROWS], const Any& any,
                                      long row, int k, float (&sums)[XROWS]) {
  const unsigned char* const codes = (const unsigned char*)tile.codes + row * in.K * any.bits / 8;
  const long group = row * (in.K / any.group) + k / any.group;
  float scale, bias = 0.0f;
  if (any.mode == kAffine) scale = widen(((const T*)tile.scales)[group]), bias = widen(((const T*)tile.biases)[group]);
  else scale = any.mode == kNvfp4 ? float8(((const unsigned char*)tile.scales)[group])
                                  : power_of_two(((const unsigned char*)tile.scales)[group]);
  float products[XROWS] = {}, of_x[XROWS] = {};
#pragma unroll 4
  for (int column = k; column < k + 16; ++column) {
    const unsigned code = code_of(codes, column, any.bits);
    const float value = any.mode == kAffine ? float(code) : any.mode == kMxfp8 ? float8(code) : float4_of(code);
#pragma unroll
    for (int m = 0; m < XROWS; ++m) {
      if (m >= in.rows) break;
      float x = widen(in.x[(long)m * in.K + column]);
      if (in.weight != nullptr) x = normed(x, scales[m], widen(in.weight[column]));
      products[m] += x * value;
      of_x[m] += x;
    }
  }
#pragma unroll
  for (int m = 0; m < XROWS; ++m) sums[m] += scale * products[m] + bias * of_x[m];
}

// As add_products, of any format and type.
template <class Form>
static __device__ int add_any(const kd_arguments& a, const Inputs& in, const Run& run, char* shared, float*& results) {
  constexpr int kChunk = 512;
  const Any any = {(int)a.dims[KD_DIM_bits], (int)a.dims[KD_DIM_group], (int)a.dims[KD_DIM_mode]};
  const int chunks = (in.K + kChunk - 1) / kChunk;
  results = (float*)shared;
  float scales[XROWS];
  norm_scales(in, scales);
  for (Item at = item_of(threadIdx.x / 32, chunks); at.tile < run.count; at = next_of(at, chunks)) {
    const Tile tile = Form::tile(a, run, at.tile);
    const int k = at.chunk * kChunk + threadIdx.x % 32 * 16;
    for (int r = 0; r < kRows; ++r) {
      float sums[XROWS] = {};
      if (k < in.K) multiply_codes(tile, in, scales, any, min(tile.row + r, tile.rows - 1), k, sums);
#pragma unroll
      for (int m = 0; m < XROWS; ++m) {
        sums[m] = sum_of_lanes(sums[m]);
        if (threadIdx.x % 32 == 0) results[((at.tile * chunks + at.chunk) * kRows + r) * XROWS + m] = sums[m];
      }
    }
  }
  __syncthreads();
  return chunks;
}
