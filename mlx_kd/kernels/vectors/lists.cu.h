// clang-format off
// What ivf_topk.cu says of its stages.
#pragma once
#include "candidates.cu.h"

constexpr int kItemQueries = 4, kItemRows = 256, kItemWarps = 8, kRowsTogether = 4, kSearched = 4096;

struct Lists {
  const long *probes, *offsets;
  long pairs, each, count;  // each: probes of a query
  unsigned *of_list, *first, *first_item, *ordered, *queries;

  __device__ explicit Lists(const kd_arguments& a)
      : probes((const long*)a.inputs[2]),
        offsets((const long*)a.inputs[3]),
        pairs(a.dims[KD_DIM_M] * a.dims[KD_DIM_P]),
        each(a.dims[KD_DIM_P]),
        count(a.dims[KD_DIM_L]),
        of_list((unsigned*)a.scratch[3]),
        first(of_list + count + 1),
        first_item(first + count + 1),
        ordered(first_item + count + 1),
        queries(ordered + count + 1) {}
  __device__ long rows(long list) const { return offsets[list + 1] - offsets[list]; }
  __device__ bool is_probed(long list) const { return list >= 0 && list < count && rows(list) > 0; }
  __device__ unsigned groups(long list) const { return (of_list[list] + kItemQueries - 1) / kItemQueries; }
  __device__ unsigned items(long list) const {
    return groups(list) * (unsigned)((rows(list) + kItemRows - 1) / kItemRows);
  }
};

static __device__ Search search_of(const kd_arguments& a) {
  return {(const float*)a.inputs[0], (const float*)a.inputs[1],     a.dims[KD_DIM_N],
          (int)a.dims[KD_DIM_D],     (unsigned)a.dims[KD_DIM_k], INNER};
}

// By threads `from`, `from` + `step` and so on: of a grid, or of one block.
static __device__ void begin_lists(const kd_arguments& a, long from, long step) {
  const Lists lists(a);
  for (long i = from; i <= lists.count; i += step) lists.of_list[i] = lists.ordered[i] = 0;
  for (long i = from; i < a.dims[KD_DIM_M]; i += step) {
    ((unsigned*)limits_of(a))[i] = order_of(KD_INFINITE);
    counts_of(a)[i] = parts_done(a)[i] = 0;
  }
}

static __device__ void count_pairs(const kd_arguments& a, long from, long step) {
  const Lists lists(a);
  for (long i = from; i < lists.pairs; i += step)
    if (const long list = lists.probes[i]; lists.is_probed(list)) atomicAdd(lists.of_list + list, 1u);
}

static __device__ void order_pairs(const kd_arguments& a, long from, long step) {
  const Lists lists(a);
  for (long i = from; i < lists.pairs; i += step) {
    const long list = lists.probes[i];
    if (lists.is_probed(list))
      lists.queries[lists.first[list] + atomicAdd(lists.ordered + list, 1u)] = (unsigned)(i / lists.each);
  }
}

// Of the threads of a block, each with two numbers: their sums before this thread's, and those of all.
static __device__ uint2 sums_before(uint2 x, uint2& all) {
  __shared__ uint2 of_warps[32];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  uint2 up_to = x;
  for (int step = 1; step < 32; step *= 2) {
    const unsigned a = __shfl_up_sync(kAll, up_to.x, step), b = __shfl_up_sync(kAll, up_to.y, step);
    if (lane >= step) up_to.x += a, up_to.y += b;
  }
  __syncthreads();
  if (lane == 31) of_warps[warp] = up_to;
  __syncthreads();
  uint2 before = {up_to.x - x.x, up_to.y - x.y};
  all = {0, 0};
  for (int i = 0; i < blockDim.x / 32; ++i) {
    if (i < warp) before.x += of_warps[i].x, before.y += of_warps[i].y;
    all.x += of_warps[i].x, all.y += of_warps[i].y;
  }
  return before;
}

// By one block.
static __device__ void cut_lists(const kd_arguments& a) {
  const Lists lists(a);
  uint2 done = {0, 0};
  for (long first = 0; first <= lists.count; first += blockDim.x) {
    const long list = first + threadIdx.x;
    uint2 mine = {0, 0}, all;
    if (list < lists.count && __ldcg(lists.of_list + list) > 0) mine = {__ldcg(lists.of_list + list), lists.items(list)};
    const uint2 before = sums_before(mine, all);
    if (list <= lists.count) lists.first[list] = done.x + before.x, lists.first_item[list] = done.y + before.y;
    done.x += all.x, done.y += all.y;
  }
}

struct Item {
  long from, to;  // vectors
  int count;      // queries
  const unsigned* queries;
};

// first_item may lie in shared memory.
static __device__ Item item_at(const Lists& lists, const unsigned* first_item, unsigned index) {
  long low = 0, high = lists.count;  // the last list whose first item is not above the index
  while (high - low > 1) {
    const long middle = (low + high) / 2;
    if (first_item[middle] <= index)
      low = middle;
    else
      high = middle;
  }
  const unsigned groups = lists.groups(low), place = index - first_item[low], group = place % groups;
  const long from = lists.offsets[low] + (long)(place / groups) * kItemRows;
  return {from, min(from + kItemRows, lists.offsets[low + 1]),
          (int)min(lists.of_list[low] - group * kItemQueries, (unsigned)kItemQueries),
          lists.queries + lists.first[low] + group * kItemQueries};
}

template <bool kInner>
static __device__ float added(float sum, float q, float x) {
  return kInner ? fmaf(-q, x, sum) : fmaf(q - x, q - x, sum);
}

// Of kRowsTogether vectors from `row` on, by a warp: keys (query, row of the item).
template <bool kInner, int kCount>
static __device__ void keys_of_rows(const Search& search, const Item& item, long row, float (&keys)[kItemQueries][kItemRows]) {
  const float *first = search.row(row), *q[kCount];
  int x[kRowsTogether];  // where the vectors begin behind the first
  float sums[kRowsTogether][kCount] = {};
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int r = 0; r < kRowsTogether; ++r) x[r] = min(r, (int)(item.to - 1 - row)) * search.width;
#pragma unroll
  for (int i = 0; i < kCount; ++i) q[i] = search.query(item.queries[i]);
  if (search.width % 4 == 0) {
    for (int j = 4 * lane; j < search.width; j += 128) {
      float4 some[kRowsTogether];
#pragma unroll
      for (int r = 0; r < kRowsTogether; ++r) some[r] = __ldg((const float4*)(first + x[r] + j));
#pragma unroll
      for (int i = 0; i < kCount; ++i) {
        const float4 y = __ldg((const float4*)(q[i] + j));
#pragma unroll
        for (int r = 0; r < kRowsTogether; ++r)
          sums[r][i] = added<kInner>(added<kInner>(added<kInner>(added<kInner>(sums[r][i], y.x, some[r].x), y.y, some[r].y),
                                                   y.z, some[r].z), y.w, some[r].w);
      }
    }
  } else {
    for (int j = lane; j < search.width; j += 32)
#pragma unroll
      for (int r = 0; r < kRowsTogether; ++r)
#pragma unroll
        for (int i = 0; i < kCount; ++i) sums[r][i] = added<kInner>(sums[r][i], q[i][j], first[x[r] + j]);
  }
#pragma unroll
  for (int r = 0; r < kRowsTogether; ++r)
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      float sum = sums[r][i];
      for (int other = 16; other > 0; other /= 2) sum += __shfl_xor_sync(kAll, sum, other);
      if (lane == r * kCount + i && row + r < item.to) keys[i][row + r - item.from] = sum;
    }
}

template <bool kInner>
static __device__ void keys_of_item(const Search& search, const Item& item, float (&keys)[kItemQueries][kItemRows]) {
  for (long row = item.from + threadIdx.x / 32 * kRowsTogether; row < item.to; row += kItemWarps * kRowsTogether) {
    if (item.count == 1)
      keys_of_rows<kInner, 1>(search, item, row, keys);
    else if (item.count == 2)
      keys_of_rows<kInner, 2>(search, item, row, keys);
    else if (item.count == 3)
      keys_of_rows<kInner, 3>(search, item, row, keys);
    else
      keys_of_rows<kInner, 4>(search, item, row, keys);
  }
}

// By a warp, for one query of an item.
static __device__ void keep_near(const kd_arguments& a, const Search& search, unsigned query, const float* keys,
                                 const Item& item) {
  constexpr int kEach = kItemRows / 32;
  const int count = (int)(item.to - item.from), lane = threadIdx.x % 32;
  unsigned orders[kEach], *limit_at = (unsigned*)limits_of(a) + query;
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    const float key = 32 * i + lane < count ? keys[32 * i + lane] : KD_INFINITE;
    orders[i] = order_of(key < KD_INFINITE ? key : KD_INFINITE);
  }
  // Of a key in float32; products are bounded as they are.
  const float share = search.inner ? 0.0f : float(search.width / 32 + 16) * 0x1p-23f;
  float limit = key_of((Place)__ldcg(limit_at) << 32);
  if ((unsigned)count >= search.k) {
    unsigned bound = 0;
    for (unsigned bit = 1u << 31; bit >> kLeftOut; bit /= 2) {
      unsigned below = 0;
#pragma unroll
      for (int i = 0; i < kEach; ++i) below += orders[i] < bound + bit;
      if (__reduce_add_sync(kAll, below) < search.k) bound += bit;
    }
    const float here = from_above(bound) * (search.inner ? 1.0f : 1 + share);
    if (here < limit) {
      limit = here;
      if (lane == 0) atomicMin(limit_at, order_of(here));
    }
  }
  const unsigned capacity = (unsigned)a.stage;
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    const float key = key_of((Place)orders[i] << 32), slack = search.inner ? 0.0f : share * key, low = key - slack;
    const bool near = key < KD_INFINITE && low <= limit;
    const unsigned all = __ballot_sync(kAll, near);
    if (all == 0) continue;
    unsigned at = 0;
    if (lane == 0) at = atomicAdd(counts_of(a) + query, (unsigned)__popc(all));
    at = __shfl_sync(kAll, at, 0) + __popc(all & ((1u << lane) - 1));
    if (near) store_candidate(a, query, at, capacity, {low, key + slack, (unsigned)(item.from + 32 * i + lane), 0});
  }
}

static __device__ void look_at_items(const kd_arguments& a) {
  __shared__ float keys[kItemQueries][kItemRows];
  __shared__ unsigned first_items[kSearched + 1];
  const Lists lists(a);
  const Search search = search_of(a);
  const unsigned count = lists.first_item[lists.count];
  const bool is_held = lists.count <= kSearched;
  for (long i = threadIdx.x; is_held && i <= lists.count; i += blockDim.x) first_items[i] = lists.first_item[i];
  for (unsigned index = blockIdx.x; index < count; index += gridDim.x) {
    __syncthreads();
    const Item item = item_at(lists, is_held ? first_items : lists.first_item, index);
    search.inner ? keys_of_item<true>(search, item, keys) : keys_of_item<false>(search, item, keys);
    __syncthreads();
    const int warp = threadIdx.x / 32;
    if (warp < item.count) keep_near(a, search, item.queries[warp], keys[warp], item);
  }
}

// A block has a query, and a part of each list where it has too many candidates.
static __device__ void finish_lists(const kd_arguments& a) {
  const Search search = search_of(a);
  const Lists lists(a);
  const long query = blockIdx.x, part = blockIdx.y, parts = gridDim.y;
  finish(a, search, counts_of(a)[query], (unsigned)a.stage, (const long*)a.inputs[4], [&] {
    for (long i = 0; i < lists.each; ++i) {
      const long list = lists.probes[query * lists.each + i];
      if (!lists.is_probed(list)) continue;
      const long first = lists.offsets[list], rows = lists.rows(list);
      offer_rows(search, query, first + rows * part / parts, first + rows * (part + 1) / parts);
    }
  });
}
