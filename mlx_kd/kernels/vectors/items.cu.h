// clang-format off
// Items of ivf_topk: keys of up to 4 queries and 256 vectors of a list, on ordinary units.
#pragma once
#include "rows.cu.h"

#define ITEM_QUERIES 4
#define PROBES 2
constexpr int kItemRows = 256, kItemWarps = 8;
constexpr int kSmallItemRows = 128, kFewResults = 32;  // of calls with few results

static __device__ int item_rows(const kd_arguments& a) {
  return a.dims[KD_DIM_k] <= kFewResults ? kSmallItemRows : kItemRows;
}

static __device__ Search search_of(const kd_arguments& a) {
  return {(const float*)a.inputs[0], (const float*)a.inputs[1],     a.dims[KD_DIM_N],
          (int)a.dims[KD_DIM_D],     (unsigned)a.dims[KD_DIM_k], INNER};
}

#include "lists.cu.h"

template <bool kInner>
static __device__ float added(float sum, float q, float x) {
  return kInner ? fmaf(-q, x, sum) : fmaf(q - x, q - x, sum);
}

// The sums over all lanes of kSums numbers, a power of 2: x[0] of a lane becomes that of number lane * kSums / 32. Lanes
// give half of their numbers away for the others' of the other half, and so on.
template <int kHalf, int kOther, int kSums>
static __device__ void sum_of_lanes(float (&x)[kSums]) {
  const bool upper = threadIdx.x & kOther;
  if constexpr (kHalf == 0) x[0] += __shfl_xor_sync(kAll, x[0], kOther);
#pragma unroll
  for (int i = 0; i < kHalf; ++i) {
    const float given = upper ? x[i] : x[i + kHalf], kept = upper ? x[i + kHalf] : x[i];
    x[i] = kept + __shfl_xor_sync(kAll, given, kOther);
  }
  if constexpr (kOther > 1) sum_of_lanes<kHalf / 2, kOther / 2>(x);
}

// Of kRows vectors from `row` on, by a warp: keys (query, row of the item).
template <bool kInner, int kCount, int kRows>
static __device__ void keys_of_rows(const Search& search, const Item& item, const float* const (&q)[ITEM_QUERIES], long row,
                                    float (&keys)[ITEM_QUERIES][kItemRows]) {
  const float* first = search.row(row);
  int x[kRows];  // where the vectors begin behind the first
  constexpr int kSums = kRows * kCount <= 8 ? 8 : 16;
  float sums[kSums] = {};  // (row, query)
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int r = 0; r < kRows; ++r) x[r] = min(r, (int)(item.to - 1 - row)) * search.width;
  if (search.width % 4 == 0) {
#pragma unroll 1
    for (int j = 4 * lane; j < search.width; j += 128) {
      float4 some[kRows];
#pragma unroll
      for (int r = 0; r < kRows; ++r) some[r] = __ldg((const float4*)(first + x[r] + j));
#pragma unroll
      for (int i = 0; i < kCount; ++i) {
        const float4 y = __ldg((const float4*)(q[i] + j));
#pragma unroll
        for (int r = 0; r < kRows; ++r) {
          float& sum = sums[r * kCount + i];
          sum = added<kInner>(added<kInner>(added<kInner>(added<kInner>(sum, y.x, some[r].x), y.y, some[r].y), y.z,
                                            some[r].z), y.w, some[r].w);
        }
      }
    }
  } else {
#pragma unroll 1
    for (int j = lane; j < search.width; j += 32)
#pragma unroll
      for (int r = 0; r < kRows; ++r)
#pragma unroll
        for (int i = 0; i < kCount; ++i)
          sums[r * kCount + i] = added<kInner>(sums[r * kCount + i], q[i][j], first[x[r] + j]);
  }
  sum_of_lanes<kSums / 2, 16>(sums);
  const int mine = lane * kSums / 32, r = mine / kCount, i = mine % kCount;
  if (lane % (32 / kSums) == 0 && r < kRows && row + r < item.to) keys[i][row + r - item.from] = sums[0];
}

template <bool kInner, int kCount>
static __device__ void keys_of_queries(const Search& search, const Item& item, float (&keys)[ITEM_QUERIES][kItemRows]) {
  constexpr int kRows = kCount <= 2 ? 8 : 4;
  const float* q[ITEM_QUERIES];
#pragma unroll
  for (int i = 0; i < ITEM_QUERIES; ++i) q[i] = search.query(item.queries[min(i, kCount - 1)]);
  for (long row = item.from + threadIdx.x / 32 * kRows; row < item.to; row += kItemWarps * kRows)
    keys_of_rows<kInner, kCount, kRows>(search, item, q, row, keys);
}

template <bool kInner>
static __device__ void keys_of_item(const Search& search, const Item& item, float (&keys)[ITEM_QUERIES][kItemRows]) {
  if (item.count == 1)
    keys_of_queries<kInner, 1>(search, item, keys);
  else if (item.count == 2)
    keys_of_queries<kInner, 2>(search, item, keys);
  else if (item.count == 3)
    keys_of_queries<kInner, 3>(search, item, keys);
  else
    keys_of_queries<kInner, 4>(search, item, keys);
}

// While some warps keep what is near of an item, the others are at the next.
static __device__ void look_at_items(const kd_arguments& a) {
  __shared__ float keys[2][ITEM_QUERIES][kItemRows];
  __shared__ unsigned first_items[kSearched + 1];
  const Lists lists(a);
  const Search search = search_of(a);
  const unsigned count = lists.first_item[lists.count];
  const bool is_held = lists.count <= kSearched;
  for (long i = threadIdx.x; is_held && i <= lists.count; i += blockDim.x) first_items[i] = lists.first_item[i];
  __syncthreads();
  // Of a key in float32; products are bounded as they are.
  const float share = search.inner ? 0.0f : float(search.width / 32 + 16) * 0x1p-23f;
  int turn = 0;
  for (unsigned index = blockIdx.x; index < count; index += gridDim.x, turn ^= 1) {
    const Item item = item_at(lists, is_held ? first_items : lists.first_item, index);
    search.inner ? keys_of_item<true>(search, item, keys[turn]) : keys_of_item<false>(search, item, keys[turn]);
    __syncthreads();
    const int warp = threadIdx.x / 32, rows = (int)(item.to - item.from);
    if (warp >= item.count) continue;
    float mine[kItemRows / 32];
#pragma unroll
    for (int i = 0; i < kItemRows / 32; ++i) {
      const int row = 32 * i + threadIdx.x % 32;
      mine[i] = row < rows ? keys[turn][warp][row] : KD_INFINITE;
    }
    keep_near(a, search, item.queries[warp], mine, item.from, rows, [=](float key) { return share * key; });
  }
}
