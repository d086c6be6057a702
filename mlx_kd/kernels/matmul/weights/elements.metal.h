// clang-format off
// Products of x with rows of W that are elements of T. A lane takes VEC columns a turn.
#pragma once
#ifndef VEC
#define VEC 8  // elements of a pack: 1, 2, 4, 8
#endif
#include "products.metal.h"

struct Columns {
  float at[VEC];
};

// Columns of one row: a pack where `whole`, else the `left` ones that there are, and zeros.
static Columns columns_of(const device T* from, bool whole, uint left) {
  struct alignas(PACK_BYTES) Pack {
    T at[VEC];
  };
  Columns result;
  if (whole) {
    const Pack pack = *reinterpret_cast<const device Pack*>(from);
#pragma unroll
    for (uint v = 0; v < VEC; ++v) result.at[v] = float(pack.at[v]);
  } else {
#pragma unroll
    for (uint v = 0; v < VEC; ++v) result.at[v] = v < left ? float(from[v]) : 0.0f;
  }
  return result;
}

static Sums products_of(const device T* w, uint N, const device T* x, uint M, uint K, Place place) {
  Sums sums = no_sums();
  const bool whole = K % VEC == 0;
  for (uint from = (place.part * 32 + place.lane) * VEC; from < K; from += SPLIT * 32 * VEC) {
    Columns rows[ROWS];
#pragma unroll
    for (uint r = 0; r < ROWS; ++r)
      rows[r] = columns_of(w + ulong(min(place.row + r, N - 1)) * K + from, whole, K - from);
#pragma unroll
    for (uint m = 0; m < XROWS; ++m)
      if (place.x_row + m < M) {
        const Columns columns = columns_of(x + ulong(place.x_row + m) * K + from, whole, K - from);
#pragma unroll
        for (uint r = 0; r < ROWS; ++r) {
          float sum = 0.0f;
#pragma unroll
          for (uint v = 0; v < VEC; ++v) sum += rows[r].at[v] * columns.at[v];
          sums.at[r][m] += sum;
        }
      }
  }
  return sums;
}
