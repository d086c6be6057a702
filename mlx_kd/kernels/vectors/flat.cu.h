// clang-format off
// l2_topk and ip_topk on a GPU: the k rows of base that are nearest to each query, without a matrix of distances.
//
// On tensor cores (sm_90a), four stages:
//   samples     some tiles of base: of each 16 rows an upper bound of the least key
//   limits      a bound of the k-th least of these: at least k rows are as near. Where there are few samples, each
//               block of the scan finds the limits of its queries itself.
//   scan        all tiles: rows whose lower bound is not above the limit become candidates
//   finish      candidates that may be among the k best, in float64; sorted. A query with more candidates than have
//               room looks at all rows so.
// A key is |q - x|^2 or -q.x: the less, the nearer. Bounds of it in the scan lack |q|^2, which is the same for all
// rows. A bound that is NaN makes a candidate, so that nothing is lost by a product that overflows. Where base is
// small there are no samples, and every row is a candidate. Without tensor cores there are `rows`, all rows in
// float64, and `finish`.
//
// Scratch: 0 to 2 as in candidates.cu.h; 3 bounds of samples (query, 4 of each tile).
// Index of `finish`: the parts of the rows, above the capacity of a query, which is 0 without tensor cores.
#pragma once
#include "rows.cu.h"
#include "candidates.cu.h"

static __device__ Search search_of(const kd_arguments& a) {
  return {(const float*)a.inputs[0], (const float*)a.inputs[1],     a.dims[KD_DIM_N],
          (int)a.dims[KD_DIM_D],     (unsigned)a.dims[KD_DIM_k], INNER};
}

// A block has a query.
static __device__ void find_limits(const kd_arguments& a) {
  const unsigned k = (unsigned)a.dims[KD_DIM_k], tiles = (unsigned)a.stage;
  const float4* bounds = (const float4*)a.scratch[3] + (long)blockIdx.x * tiles;
  float limit;
  if (tiles >= 16 * k)  // few of the k nearest samples are in the same tile
    limit = bound_of_least(tiles, k, [=](unsigned i) { return least_of_tile(bounds[i]); });
  else
    limit = bound_of_least(4 * tiles, k, [=](unsigned i) { return ((const float*)bounds)[i]; });
  if (threadIdx.x == 0) limits_of(a)[blockIdx.x] = limit;
}

static __device__ void offer_part_of_rows(const Search& search) {
  const long part = blockIdx.y, parts = gridDim.y;
  offer_rows(search, blockIdx.x, search.rows * part / parts, search.rows * (part + 1) / parts);
}

// A block has a query and a part of the rows.
static __device__ void find_in_rows(const kd_arguments& a) {
  const Search search = search_of(a);
  begin_best();
  offer_part_of_rows(search);
  store_part(a, search, blockIdx.x, blockIdx.y, gridDim.y);
}

// A block has a query.
static __device__ void finish_flat(const kd_arguments& a) {
  const Search search = search_of(a);
  const unsigned capacity = (unsigned)a.stage;
  if (capacity == 0) {
    begin_best();
    offer_parts(a, search, blockIdx.x, a.stage >> 32);
    store_best(a, search, blockIdx.x, nullptr);
    return;
  }
  const unsigned count = capacity >= search.rows ? (unsigned)search.rows : counts_of(a)[blockIdx.x];
  finish(a, search, count, capacity, nullptr, [&] { offer_part_of_rows(search); });
}
