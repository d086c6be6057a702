// clang-format off
// Bounds of the keys of all rows of base, on tensor cores (sm_90a), and what is kept of them.
//
// Candidates are gathered in shared memory and counted for their queries when many are there, and at the end: a count
// in global memory takes longer than a tile.
#pragma once
#include "tiles.cu.h"

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

// Bounds of the keys of a row, from its squared norm. `add` raises or lowers a product by what it may be off by.
struct Bounds {
  float norm, least, most;

  __device__ Bounds(float squares, int width) {
    const float share = float(width / 4 + 24) * 0x1p-23f, tiny = 1e-30f;
    norm = sqrtf(squares) * (1 + share);
#if INNER
    least = -tiny, most = tiny;
#else
    least = fmaf(-share, squares, squares) - tiny, most = fmaf(share, squares, squares) + tiny;
#endif
  }
  __device__ float low(float product, float slack) const { return scaled(fmaf(slack, norm, product), least); }
  __device__ float up(float product, float slack) const { return scaled(fmaf(-slack, norm, product), most); }
  static __device__ float scaled(float product, float other) {
    return INNER ? other - product : fmaf(-2.0f, product, other);
  }
};

static __device__ float2 limit_of(const Scan& scan, int query) {
  float2 x;
  asm volatile("ld.shared.v2.f32 {%0, %1}, [%2];" : "=f"(x.x), "=f"(x.y) : "r"(scan.limits_at + 8 * query));
  return x;
}

// The query of a thread's i-th pair of results, of this row and the one 8 below: sums[at] and sums[at + 2].
struct Pair {
  int query, at;
  __device__ explicit Pair(int i) : query(i / 2 * 8 + threadIdx.x % 4 * 2 + i % 2), at(i / 2 * 4 + i % 2) {}
};

// Of each 16 rows, the least upper bound of each query.
template <int kQueries>
static __device__ void keep_samples(const kd_arguments& a, const Scan& scan, long turn, const float (&sums)[kQueries / 2],
                                    const Bounds (&bounds)[2], long row) {
  const int lane = threadIdx.x % 32, warp = threadIdx.x % 128 / 32;
  const bool first = row < scan.flat.rows, second = row + 8 < scan.flat.rows;
#pragma unroll
  for (int i = 0; i < kQueries / 4; ++i) {
    const Pair pair(i);
    const float slack = limit_of(scan, pair.query).x;
    float up = fminf(first ? bounds[0].up(sums[pair.at], slack) : KD_INFINITE,
                     second ? bounds[1].up(sums[pair.at + 2], slack) : KD_INFINITE);
    for (int other = 4; other < 32; other *= 2) up = fminf(up, __shfl_xor_sync(kAll, up, other));
    const long of = (long)blockIdx.y * kQueries + pair.query;
    if (lane < 4 && of < scan.count) ((float*)a.scratch[3])[(of * scan.samples + turn) * 4 + warp] = up;
  }
}

// Candidates of a group, in shared memory; those that find no room there are stored at once.
struct Gathering {
  Candidate* all;
  unsigned* count;
  int group;

  __device__ Gathering(const Scan& scan, const unsigned char* memory, int group)
      : all((Candidate*)(memory + (scan.gathered_at - scan.queries_at)) + group * kGathered),
        count((unsigned*)(memory + (scan.counts_at() - scan.queries_at)) + group),
        group(group) {}
  __device__ void take(const kd_arguments& a, const Scan& scan, unsigned query, const Candidate& one) const {
    if (scan.takes_every_row()) return store_candidate(a, query, one.row, scan.capacity, one);
    const unsigned at = atomicAdd(count, 1u);
    if (at < kGathered)
      all[at] = one, all[at].query = query;
    else
      store_candidate(a, query, atomicAdd(counts_of(a) + query, 1u), scan.capacity, one);
  }
  // By all threads of the group, if there are more than `most`.
  __device__ void store(const kd_arguments& a, const Scan& scan, unsigned most) const {
    group_meets(group);
    const unsigned there = min(*count, kGathered);
    group_meets(group);
    if (there <= most) return;
    for (unsigned i = threadIdx.x % 128; i < there; i += 128) {
      const unsigned query = all[i].query;
      store_candidate(a, query, atomicAdd(counts_of(a) + query, 1u), scan.capacity, all[i]);
    }
    group_meets(group);
    if (threadIdx.x % 128 == 0) *count = 0;
    group_meets(group);
  }
};

// Which of a thread's results may be near: bit 2 i for the i-th pair, bit 2 i + 1 for its other row.
template <int kQueries>
static __device__ unsigned near_limits(const Scan& scan, const float (&sums)[kQueries / 2], const Bounds (&bounds)[2]) {
  unsigned near = 0;
#pragma unroll
  for (int i = 0; i < kQueries / 4; ++i) {
    const Pair pair(i);
    const float2 limit = limit_of(scan, pair.query);
    if (!(bounds[0].low(sums[pair.at], limit.x) > limit.y)) near |= 1u << (2 * i);
    if (!(bounds[1].low(sums[pair.at + 2], limit.x) > limit.y)) near |= 2u << (2 * i);
  }
  return near;
}

template <int kQueries>
static __device__ void keep_candidates(const kd_arguments& a, const Scan& scan, const Gathering& gathering,
                                       const float (&sums)[kQueries / 2], const Bounds (&bounds)[2], long row) {
  const unsigned near = scan.takes_every_row() ? kAll : near_limits<kQueries>(scan, sums, bounds);
  if (near == 0) return;
#pragma unroll
  for (int i = 0; i < kQueries / 4; ++i) {
    if ((near >> (2 * i) & 3) == 0) continue;
    const Pair pair(i);
    const long of = (long)blockIdx.y * kQueries + pair.query;
    const float slack = limit_of(scan, pair.query).x;
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const float product = sums[pair.at + 2 * r];
      if ((near >> (2 * i + r) & 1) && row + 8 * r < scan.flat.rows && of < scan.count)
        gathering.take(a, scan, (unsigned)of,
                       {bounds[r].low(product, slack), bounds[r].up(product, slack), (unsigned)(row + 8 * r), 0});
    }
  }
}

// Writes the pairs of bfloat16 of one query, by a warp. A query that is not there is 0; so is one with NaN, which
// finds nothing.
template <int kQueries>
static __device__ void split_query(const kd_arguments& a, const Scan& scan, unsigned char* memory, int row) {
  const long query = (long)blockIdx.y * kQueries + row;
  const bool is_there = query < scan.count;
  const float* q = scan.flat.query(query);
  float squares = 0;
  for (int j = threadIdx.x % 32; is_there && j < scan.flat.width; j += 32) squares = fmaf(q[j], q[j], squares);
  for (int other = 16; other > 0; other /= 2) squares += __shfl_xor_sync(kAll, squares, other);
  const bool counts = is_there && squares == squares;
  for (int j = threadIdx.x % 32 * 2; j < scan.chunks * kColumns; j += 64) {
    unsigned high, low;
    split_pair(counts && j < scan.flat.width ? q[j] : 0.0f, counts && j + 1 < scan.flat.width ? q[j + 1] : 0.0f, high, low);
    const int place = j % 64 / 16 * 16 + j % 16 / 4 * 2 + j % 4 / 2 * 8;
    unsigned char* to =
        memory + j / 64 * (kQueries * 256) + row * 128 + ((place / 8) ^ (row % 8)) * 16 + place % 8 * 2;
    *(unsigned*)to = high;
    *(unsigned*)(to + kQueries * 128) = low;
  }
  if (threadIdx.x % 32 == 0) {
    const float norm = sqrtf(squares) * (1 + float(scan.flat.width / 32 + 24) * 0x1p-23f);
    float2* limit = (float2*)(memory + (scan.limits_at - scan.queries_at)) + row;
    if (!counts)
      *limit = {0, -KD_INFINITE};
    else
      *limit = {norm * share_of_products(scan.flat.width),
                scan.limits == kStored && !scan.takes_every_row() ? limits_of(a)[query] : KD_INFINITE};
  }
}

// By a warp: the bound of the k-th least sample, by tiles, as in find_limits.
static __device__ void find_limit(const kd_arguments& a, const Scan& scan, unsigned char* memory, int queries, int row) {
  const long query = (long)blockIdx.y * queries + row;
  if (query >= scan.count) return;
  const float4* bounds = (const float4*)a.scratch[3] + query * scan.samples;
  unsigned orders[kSamplesOfLane];
#pragma unroll
  for (int i = 0; i < kSamplesOfLane; ++i) {
    const int at = i * 32 + threadIdx.x % 32;
    orders[i] = order_of(KD_INFINITE);
    if (at < scan.samples) orders[i] = order_of(least_of_tile(bounds[at]));
  }
  unsigned bound = 0;
  for (unsigned bit = 1u << 31; bit >> kLeftOut; bit /= 2) {
    unsigned below = 0;
#pragma unroll
    for (int i = 0; i < kSamplesOfLane; ++i) below += orders[i] < bound + bit;
    if (__reduce_add_sync(kAll, below) < scan.flat.k) bound += bit;
  }
  float2* limit = (float2*)(memory + (scan.limits_at - scan.queries_at)) + row;
  if (threadIdx.x % 32 == 0 && limit->y == KD_INFINITE) limit->y = from_above(bound);
}

template <int kQueries, bool kSamples>
static __device__ void look_at_tiles(const kd_arguments& a, const Scan& scan, unsigned char* memory) {
  const int group = threadIdx.x / 128;
  for (int row = threadIdx.x / 32; row < kQueries; row += 8) {
    split_query<kQueries>(a, scan, memory, row);
    if (!kSamples && scan.limits == kFound) find_limit(a, scan, memory, kQueries, row);
  }
  fence_copies();
  asm volatile("bar.sync 3, 256;" ::: "memory");
  const Gathering gathering(scan, memory, group);
  Step step(group, scan.ring);
  for (long turn = blockIdx.x + group * (long)gridDim.x; turn < scan.turns(); turn += 2 * (long)gridDim.x) {
    float sums[kQueries / 2], norms[2];
    multiply_tile<kQueries>(scan, step, sums, norms);
    const Bounds bounds[2] = {Bounds(norms[0], scan.flat.width), Bounds(norms[1], scan.flat.width)};
    const long row = scan.tile_of(turn) * kTileRows + row_of_thread();
    if (kSamples) {
      keep_samples<kQueries>(a, scan, turn, sums, bounds, row);
    } else {
      keep_candidates<kQueries>(a, scan, gathering, sums, bounds, row);
      gathering.store(a, scan, kGathered / 2);
    }
  }
  if (!kSamples) gathering.store(a, scan, 0);
}

// The blocks of a row of the grid share the tiles; its y is the block of queries. Samples begin the counts.
template <int kQueries, bool kSamples>
static __device__ void scan_tiles(const kd_arguments& a, const kd_tensor_maps& maps) {
  extern __shared__ __align__(1024) unsigned char memory[];
  const Scan scan(a, kQueries, shared_address(memory));
  const long query = (long)blockIdx.y * kQueries + threadIdx.x;
  if (kSamples && blockIdx.x == 0 && threadIdx.x < kQueries && query < scan.count)
    counts_of(a)[query] = parts_done(a)[query] = 0;
  if (threadIdx.x == 0) {
    for (int i = 0; i < 2 * scan.ring; ++i) barrier_init(scan.full(i), 1), barrier_init(scan.empty(i), 4);
    fence_copies();
    *(unsigned long long*)(memory + (scan.counts_at() - scan.queries_at)) = 0;
  }
  __syncthreads();
  if (threadIdx.x >= 256)
    request_tiles(maps, scan);
  else
    look_at_tiles<kQueries, kSamples>(a, scan, memory);
}
#endif

// The kernels of a flat search, which says whether its distances are INNER products.
#define KD_FLAT_KERNEL(name, threads) \
  extern "C" __global__ void __launch_bounds__(threads) name(const __grid_constant__ kd_arguments a)
#define KD_FLAT_SCAN(name, queries, samples)                                                                     \
  extern "C" __global__ void __launch_bounds__(kScanThreads, 1)                                                  \
      name(const __grid_constant__ kd_arguments a, const __grid_constant__ kd_tensor_maps maps) {                \
    scan_tiles<queries, samples>(a, maps);                                                                       \
  }
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define KD_FLAT_SCANS(name)                   \
  KD_FLAT_SCAN(name##_samples8, 8, true)      \
  KD_FLAT_SCAN(name##_samples64, 64, true)    \
  KD_FLAT_SCAN(name##_scan8, 8, false)        \
  KD_FLAT_SCAN(name##_scan64, 64, false)
#else
#define KD_FLAT_SCANS(name)
#endif
#define KD_FLAT_KERNELS(name)                           \
  KD_FLAT_KERNEL(name##_limits, 256) { find_limits(a); } \
  KD_FLAT_KERNEL(name##_rows, 256) { find_in_rows(a); }  \
  KD_FLAT_KERNEL(name, 1024) { finish_flat(a); }         \
  KD_FLAT_SCANS(name)
