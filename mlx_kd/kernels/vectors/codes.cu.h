// clang-format off
// What is searched where a vector is the centroid of its list and codes of 8 bits for the parts of its rest.
#pragma once
#include "../common/kd_arguments.h"
#include "best.cu.h"

constexpr int kCodes = 256;

// A key is |q - c - y|^2, or -q.(c + y) where `inner`: c of the list, y of the codes.
struct Search {
  const float* queries;
  const unsigned char* codes;  // (rows, parts)
  const float *books, *centroids;
  const long* offsets;
  long rows, lists;
  int width, parts;
  unsigned k;
  bool inner;

  __device__ const float* query(long i) const { return queries + i * width; }
  // Of a row: the last list that does not begin behind it.
  __device__ long list_of(long row) const {
    long low = 0, high = lists;
    while (high - low > 1) {
      const long middle = (low + high) / 2;
      if (offsets[middle] <= row)
        low = middle;
      else
        high = middle;
    }
    return low;
  }
};

// By a warp: the keys of kRows rows, first to first + kRows - 1, in float64; beyond `end` those of the last.
template <int kRows>
static __device__ void exact_keys(float (&keys)[kRows], const Search& search, const float* q, long first, long end) {
  const int each = search.width / search.parts;
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    const long row = min(first + r, end - 1);
    const unsigned char* codes = search.codes + row * search.parts;
    const float* centroid = search.centroids + search.list_of(row) * search.width;
    double sum = 0;
    for (int j = threadIdx.x % 32; j < search.width; j += 32) {
      const double y = (double)search.books[(long)j * kCodes + codes[j / each]], x = (double)q[j], c = (double)centroid[j];
      sum = search.inner ? fma(-x, c, fma(-x, y, sum)) : fma(x - c - y, x - c - y, sum);
    }
    for (int other = 16; other > 0; other /= 2) sum += __shfl_xor_sync(kAll, sum, other);
    keys[r] = (float)sum + 0.0f;  // 0 has one sign
  }
}
