// clang-format off
// The last stage of searches: the k best of the candidates of each query, or of all its rows where it has more
// candidates than have room.
//
// Scratch: 0 of each query its limit, the count of its candidates, and the parts of its rows that are done;
// 1 places (query, part, k) of rows; 2 candidates (query, capacity).
//
// The source includes before what is searched: rows.cu.h or codes.cu.h, with Search and exact_keys.
#pragma once
#include "../common/kd_arguments.h"
#include "best.cu.h"

struct Candidate {
  float low, up;  // bounds of the key, or of one that differs from it by the same for all rows
  unsigned row;
  unsigned query;  // where candidates of several are together
};

static __device__ float* limits_of(const kd_arguments& a) {
  return (float*)a.scratch[0];
}
static __device__ unsigned* counts_of(const kd_arguments& a) {
  return (unsigned*)a.scratch[0] + a.dims[KD_DIM_M];
}
static __device__ unsigned* parts_done(const kd_arguments& a) {
  return counts_of(a) + a.dims[KD_DIM_M];
}

// A candidate beyond the capacity is lost: its query will look at all its rows.
static __device__ void store_candidate(const kd_arguments& a, long query, unsigned at, unsigned capacity,
                                       const Candidate& one) {
  if (at < capacity)
    ((float4*)a.scratch[2])[query * capacity + at] = {one.low, one.up, __uint_as_float(one.row), 0.0f};
}

// The rows [begin, end), four by a warp at a time.
static __device__ void offer_rows(const Search& search, long query, long begin, long end) {
  constexpr int kRows = 4, kTurns = 4;
  const int warps = blockDim.x / 32, warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  for (long first = begin; first < end; first += warps * kRows * kTurns) {
    make_room(warps * kRows * kTurns, search.k);
    for (int turn = 0; turn < kTurns; ++turn) {
      const long row = first + (turn * warps + warp) * kRows;
      if (row >= end) break;
      float keys[kRows];
      exact_keys(keys, search, search.query(query), row, end);
#pragma unroll
      for (int r = 0; r < kRows; ++r)
        if (lane == r && row + r < end) offer(place_of(keys[r], (unsigned)(row + r)));
    }
  }
}

// Those that may be among the k best are shared out to the warps, which read their rows.
static __device__ void offer_candidates(const Search& search, long query, const Candidate* candidates, unsigned count) {
  __shared__ unsigned near[1024], near_count;
  Candidate mine = threadIdx.x < count ? candidates[threadIdx.x] : Candidate{KD_INFINITE, KD_INFINITE, 0, 0};
  const auto up_of = [&](unsigned i) { return i == threadIdx.x ? mine.up : candidates[i].up; };
  const float bound = count <= search.k ? KD_INFINITE : bound_of_least(count, search.k, up_of);
  if (threadIdx.x == 0) near_count = 0;
  begin_best();
  for (unsigned first = 0; first < count; first += blockDim.x) {
    make_room(blockDim.x, search.k);
    if (first > 0 && first + threadIdx.x < count) mine = candidates[first + threadIdx.x];
    if (first + threadIdx.x < count && !(mine.low > bound)) near[atomicAdd(&near_count, 1u)] = mine.row;
    __syncthreads();
    const unsigned all = near_count;
    for (unsigned i = threadIdx.x / 32; i < all; i += blockDim.x / 32) {
      float keys[1];
      exact_keys(keys, search, search.query(query), (long)near[i], search.rows);
      if (threadIdx.x % 32 == 0) offer(place_of(keys[0], near[i]));
    }
    __syncthreads();
    if (threadIdx.x == 0) near_count = 0;
  }
}

static __device__ Place* places_of_part(const kd_arguments& a, const Search& search, long query, long part, long parts) {
  return (Place*)a.scratch[1] + (query * parts + part) * search.k;
}

// Sorts what was offered, and keeps it as the places of a part.
static __device__ void store_part(const kd_arguments& a, const Search& search, long query, long part, long parts) {
  keep_best(search.k);
  Place* to = places_of_part(a, search, query, part, parts);
  for (unsigned i = threadIdx.x; i < search.k; i += blockDim.x) to[i] = i < held_count ? held[i] : kNone;
}

static __device__ void offer_parts(const kd_arguments& a, const Search& search, long query, long parts) {
  const Place* places = places_of_part(a, search, query, 0, parts);
  const unsigned count = (unsigned)parts * search.k;
  for (unsigned first = 0; first < count; first += blockDim.x) {
    make_room(blockDim.x, search.k);
    if (first + threadIdx.x < count) offer(places[first + threadIdx.x]);
  }
}

// By the last block of a query's parts.
static __device__ bool all_parts_done(const kd_arguments& a) {
  __shared__ bool is_last;
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) is_last = atomicAdd(parts_done(a) + blockIdx.x, 1u) + 1 == gridDim.y;
  __syncthreads();
  __threadfence();
  return is_last;
}

// Ids are rows, or what `labels` says of them.
static __device__ void store_best(const kd_arguments& a, const Search& search, long query, const long* labels) {
  float* distances = (float*)a.outputs[0] + query * search.k;
  long long* ids = (long long*)a.outputs[1] + query * search.k;
  keep_best(search.k);
  for (unsigned i = threadIdx.x; i < search.k; i += blockDim.x) {
    const bool found = i < held_count;
    const float key = found ? key_of(held[i]) : 3.40282347e38f;
    const unsigned row = (unsigned)held[i];
    distances[i] = search.inner ? -key : key;
    ids[i] = !found ? -1 : labels ? labels[row] : (long long)row;
  }
}

// A block has a query, and a part of its rows where it has too many candidates; offer_part() offers these.
template <class OfferPart>
static __device__ void finish(const kd_arguments& a, const Search& search, unsigned count, unsigned capacity,
                              const long* labels, OfferPart offer_part) {
  const long query = blockIdx.x;
  if (count <= capacity) {
    if (blockIdx.y > 0) return;
    offer_candidates(search, query, (const Candidate*)a.scratch[2] + query * capacity, count);
  } else {
    begin_best();
    offer_part();
    store_part(a, search, query, blockIdx.y, gridDim.y);
    if (!all_parts_done(a)) return;
    begin_best();
    offer_parts(a, search, query, gridDim.y);
  }
  store_best(a, search, query, labels);
}
