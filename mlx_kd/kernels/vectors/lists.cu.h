// clang-format off
// Searches in lists: what ivf_topk.cu and ivfpq_topk.cu say of their stages. They define before: what is searched
// (rows.cu.h or codes.cu.h), PROBES, the input of the lists that queries probe, with offsets and labels behind it, and
// ITEM_QUERIES and item_rows(a), the most queries and vectors of an item.
#pragma once
#include "candidates.cu.h"

constexpr int kSearched = 4096;  // lists whose items are found in shared memory

struct Lists {
  const long *probes, *offsets;
  long pairs, each, count;  // each: probes of a query
  int rows_of_item;         // at most
  unsigned *of_list, *first, *first_item, *ordered, *queries;

  __device__ explicit Lists(const kd_arguments& a)
      : probes((const long*)a.inputs[PROBES]),
        offsets((const long*)a.inputs[PROBES + 1]),
        pairs(a.dims[KD_DIM_M] * a.dims[KD_DIM_P]),
        each(a.dims[KD_DIM_P]),
        count(a.dims[KD_DIM_L]),
        rows_of_item(item_rows(a)),
        of_list((unsigned*)a.scratch[3]),
        first(of_list + count + 1),
        first_item(first + count + 1),
        ordered(first_item + count + 1),
        queries(ordered + count + 1) {}
  __device__ long rows(long list) const { return offsets[list + 1] - offsets[list]; }
  __device__ bool is_probed(long list) const { return list >= 0 && list < count && rows(list) > 0; }
  __device__ unsigned groups(long list) const { return (of_list[list] + ITEM_QUERIES - 1) / ITEM_QUERIES; }
  __device__ unsigned items(long list) const {
    return groups(list) * (unsigned)((rows(list) + rows_of_item - 1) / rows_of_item);
  }
};

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
  long list;
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
  const long from = lists.offsets[low] + (long)(place / groups) * lists.rows_of_item;
  return {from, min(from + lists.rows_of_item, lists.offsets[low + 1]),
          (int)min(lists.of_list[low] - group * ITEM_QUERIES, (unsigned)ITEM_QUERIES),
          lists.queries + lists.first[low] + group * ITEM_QUERIES, low};
}

// By a warp, for one query: of kEach keys a lane, of rows first, first + 32 and so on, those that may be near. slack_of(key)
// is what a key may be off by; NaN where that is not known. The k-th least of them is a limit of the query from then on.
template <int kEach, class SlackOf>
static __device__ void keep_near(const kd_arguments& a, const Search& search, unsigned query, const float (&keys)[kEach],
                                 long first, int count, SlackOf slack_of) {
  unsigned orders[kEach], *limit_at = (unsigned*)limits_of(a) + query;
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int i = 0; i < kEach; ++i) orders[i] = order_of(keys[i] < KD_INFINITE ? keys[i] : KD_INFINITE);
  float limit = key_of((Place)__ldcg(limit_at) << 32);
  if ((unsigned)count >= search.k) {
    unsigned bound = 0;
    for (unsigned bit = 1u << 31; bit >> kLeftOut; bit /= 2) {
      unsigned below = 0;
#pragma unroll
      for (int i = 0; i < kEach; ++i) below += orders[i] < bound + bit;
      if (__reduce_add_sync(kAll, below) < search.k) bound += bit;
    }
    const float least = from_above(bound), here = least + slack_of(least);
    if (here < limit) {
      limit = here;
      if (lane == 0) atomicMin(limit_at, order_of(here));
    }
  }
  const auto is_near = [=](float key) { return key < KD_INFINITE && !(key - slack_of(key) > limit); };
  unsigned before[kEach], all = 0;  // of what is near: before each 32 rows, in all
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    before[i] = all;
    all += __popc(__ballot_sync(kAll, is_near(key_of((Place)orders[i] << 32))));
  }
  if (all == 0) return;
  unsigned at = 0;
  if (lane == 0) at = atomicAdd(counts_of(a) + query, all);
  at = __shfl_sync(kAll, at, 0);
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    const float key = key_of((Place)orders[i] << 32), slack = slack_of(key);
    const unsigned near = __ballot_sync(kAll, is_near(key));
    if (near >> lane & 1)
      store_candidate(a, query, at + before[i] + __popc(near & ((1u << lane) - 1)), (unsigned)a.stage,
                      {key - slack, key + slack, (unsigned)(first + 32 * i + lane), 0});
  }
}

// A block has a query, and a part of each list where it has too many candidates.
static __device__ void finish_lists(const kd_arguments& a) {
  const Search search = search_of(a);
  const Lists lists(a);
  const long query = blockIdx.x, part = blockIdx.y, parts = gridDim.y;
  finish(a, search, counts_of(a)[query], (unsigned)a.stage, (const long*)a.inputs[PROBES + 2], [&] {
    for (long i = 0; i < lists.each; ++i) {
      const long list = lists.probes[query * lists.each + i];
      if (!lists.is_probed(list)) continue;
      const long first = lists.offsets[list], rows = lists.rows(list);
      offer_rows(search, query, first + rows * part / parts, first + rows * (part + 1) / parts);
    }
  });
}

static __device__ long thread_of_grid() {
  return blockIdx.x * (long)blockDim.x + threadIdx.x;
}
static __device__ long threads_of_grid() {
  return gridDim.x * (long)blockDim.x;
}

static __device__ void prepare_lists(const kd_arguments& a) {
  begin_lists(a, threadIdx.x, blockDim.x);
  __syncthreads();
  count_pairs(a, threadIdx.x, blockDim.x);
  __syncthreads();
  cut_lists(a);
  __syncthreads();
  order_pairs(a, threadIdx.x, blockDim.x);
}

// The kernels of a search in lists, but that of items.
#define KD_LIST_KERNEL(name, threads) \
  extern "C" __global__ void __launch_bounds__(threads) name(const __grid_constant__ kd_arguments a)
#define KD_LIST_KERNELS(name)                                                                     \
  KD_LIST_KERNEL(name##_begin, 256) { begin_lists(a, thread_of_grid(), threads_of_grid()); }      \
  KD_LIST_KERNEL(name##_count, 256) { count_pairs(a, thread_of_grid(), threads_of_grid()); }      \
  KD_LIST_KERNEL(name##_cut, 1024) { cut_lists(a); }                                              \
  KD_LIST_KERNEL(name##_order, 256) { order_pairs(a, thread_of_grid(), threads_of_grid()); }      \
  KD_LIST_KERNEL(name##_prepare, 1024) { prepare_lists(a); }                                      \
  KD_LIST_KERNEL(name, 512) { finish_lists(a); }
