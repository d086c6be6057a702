// clang-format off
// What is searched where vectors are rows of floats; candidates.cu.h uses it.
#pragma once
#include "../common/kd_arguments.h"
#include "best.cu.h"

// What is searched. A key is |q - x|^2, or -q.x where `inner`: the less, the nearer.
struct Search {
  const float *queries, *base;
  long rows;  // of base
  int width;
  unsigned k;
  bool inner;

  __device__ const float* query(long i) const { return queries + i * width; }
  __device__ const float* row(long i) const { return base + i * width; }
};

// By a warp: the keys of kRows rows, first to first + kRows - 1, in float64; beyond `end` those of the last.
template <int kRows>
static __device__ void exact_keys(float (&keys)[kRows], const Search& search, const float* q, long first, long end) {
  const float* x[kRows];
  double sums[kRows];
#pragma unroll
  for (int r = 0; r < kRows; ++r) x[r] = search.row(min(first + r, end - 1)), sums[r] = 0;
#pragma unroll 4
  for (int j = threadIdx.x % 32; j < search.width; j += 32) {
    const double y = (double)q[j];
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      const double apart = y - (double)x[r][j];
      sums[r] = search.inner ? fma(-y, (double)x[r][j], sums[r]) : fma(apart, apart, sums[r]);
    }
  }
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    for (int other = 16; other > 0; other /= 2) sums[r] += __shfl_xor_sync(kAll, sums[r], other);
    keys[r] = (float)sums[r] + 0.0f;  // 0 has one sign
  }
}
