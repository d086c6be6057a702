// clang-format off
// The log probabilities of a row in descending order, without a sort: 16-bit types have few values, and how many
// there are of each says what lies where.
//
// A bin is a value: bin 0 that of the largest log probability, and so on down to kFaint. What is below, of which the
// exponential is 0, has no bin: it comes last. Each block of the cluster counts its share of the row in
// shared memory; parts are added in global memory, and all blocks get the whole.
#pragma once
#include "row.cu.h"

constexpr float kFaint = -110.0f;

// In the order of numbers.
static __device__ int order_of(T x) {
  const short bits = (short)x;
  return bits ^ ((bits >> 15) & 0x7fff);
}

static __device__ T of_order(int order) {
  return (T)(order ^ ((order >> 15) & 0x7fff));
}

struct Bins {
  unsigned *parts, *whole;  // (ranks, kBins) and (kBins) in global memory
  int first;                // the order of bin 0
  unsigned span;

  // How many are in a bin and those before it.
  static __device__ unsigned& up_to(unsigned bin) { return memory[bin]; }
  __device__ unsigned of(T y) const { return (unsigned)(first - order_of(y)); }
  __device__ float value(unsigned bin) const { return widen(of_order(first - (int)bin)); }
  __device__ unsigned before(unsigned bin) const { return bin == 0 ? 0 : up_to(bin - 1); }
  __device__ unsigned size() const { return up_to(span - 1); }

  // The bin of the one at a position in descending order, which is in [low, high]; span past the last.
  __device__ unsigned between(unsigned position, unsigned low, unsigned high) const {
    while (low < high) {
      const unsigned middle = (low + high) / 2;
      if (up_to(middle) > position)
        high = middle;
      else
        low = middle + 1;
    }
    return low;
  }

  // The same by a whole warp.
  __device__ unsigned at(unsigned position) const {
    unsigned low = 0, high = span;
    while (low < high) {
      const unsigned step = (high - low + 31) / 32, mine = min(high, low + (lane_id() + 1) * step) - 1;
      const unsigned above = __ballot_sync(kAll, up_to(mine) > position);
      if (above == 0) return high;
      low += (__ffs(above) - 1) * step;
      if (step == 1) return low;
      high = min(high, low + step);
    }
    return low;
  }
};

static __device__ Bins bins_of(const Row& row, unsigned* parts) {
  Bins bins = {parts, parts + (unsigned long long)row.ranks * kBins, order_of(narrow(row.best)), 0};
  const float least = fmaxf(rounded(row.floor - row.minus), kFaint);
  bins.span = min((unsigned)max(bins.first - order_of(narrow(least)), 0) + 1, kBins);
  return bins;
}

struct Counted {
  unsigned before, all;
};

// All threads of the block get what comes before theirs, and the sum of all.
static __device__ __noinline__ Counted count_before(unsigned mine, unsigned* of_warps) {
  unsigned sum = mine;
  for (unsigned by = 1; by < 32; by *= 2) {
    const unsigned other = __shfl_up_sync(kAll, sum, by);
    if (by <= lane_id()) sum += other;
  }
  __syncthreads();
  if (lane_id() == 31) of_warps[warp_id()] = sum;
  __syncthreads();
  const unsigned of_warp = of_warps[lane_id()];
  return {sum - mine + count_of_warp(lane_id() < warp_id() ? of_warp : 0), count_of_warp(of_warp)};
}

// Adds the parts of all blocks. Where there are few bins each block does it, else each some, for all.
static __device__ void add_parts(const Row& row, const Bins& bins) {
  for (unsigned bin = threadIdx.x; bin < bins.span; bin += kThreads)
    bins.parts[row.rank * kBins + bin] = bins.up_to(bin);
  meet();
  const auto sum_of = [&](unsigned bin) {
    unsigned sum = 0;
#pragma unroll 4
    for (unsigned rank = 0; rank < row.ranks; ++rank) sum += load(bins.parts + rank * kBins + bin);
    return sum;
  };
  if (bins.span <= 2 * kThreads) {
    for (unsigned bin = threadIdx.x; bin < bins.span; bin += kThreads) bins.up_to(bin) = sum_of(bin);
  } else {
    for (unsigned bin = row.rank * kThreads + threadIdx.x; bin < bins.span; bin += row.ranks * kThreads)
      bins.whole[bin] = sum_of(bin);
    meet();
    for (unsigned bin = threadIdx.x; bin < bins.span; bin += kThreads) bins.up_to(bin) = load(bins.whole + bin);
  }
  __syncthreads();
}

// Counts what is left, or all. The whole cluster.
static __device__ __noinline__ void fill_bins(Row row, Kept left, bool all, Bins bins, unsigned* of_warps) {
  for (unsigned bin = threadIdx.x; bin < bins.span; bin += kThreads) bins.up_to(bin) = 0;
  __syncthreads();
  for (unsigned from = threadIdx.x * 8; from < row.size(); from += kThreads * 8) {
    const unsigned first = row.at(from);
    const Eight x = row.load_eight(first);
#pragma unroll
    for (unsigned k = 0; k < 8; ++k) {
      const T y = row.stored(x[k]);
      const float value = widen(y);
      if (value >= kFaint && (all || row.keeps(left, value, first + k))) atomicAdd(&bins.up_to(bins.of(y)), 1u);
    }
  }
  __syncthreads();
  if (row.ranks > 1) add_parts(row, bins);
  const unsigned each = divide_up(bins.span, kThreads), first = min(threadIdx.x * each, bins.span);
  const unsigned end = min(first + each, bins.span);
  unsigned sum = 0;
  for (unsigned bin = first; bin < end; ++bin) sum += bins.up_to(bin);
  sum = count_before(sum, of_warps).before;
  for (unsigned bin = first; bin < end; ++bin) sum += bins.up_to(bin), bins.up_to(bin) = sum;
  __syncthreads();
}

// The index after the `wanted`-th (from 1) of those left whose log probability is `value`. The whole cluster; `call`
// tells apart its calls for a row. Blocks and threads have consecutive parts of the row.
static __device__ __noinline__ unsigned end_of_equals(Row row, Kept left, float value, unsigned wanted, unsigned call,
                                                       unsigned* of_warps) {
  const Places places(row);
  const unsigned each = divide_up(row.count, 8 * kThreads * row.ranks) * 8;
  const unsigned first = (row.rank * kThreads + threadIdx.x) * each;
  const auto those = [&](unsigned from) {  // a bit for each of 8
    const Eight x = row.load_eight(from);
    unsigned found = 0;
#pragma unroll 1
    for (unsigned k = 0; k < 8; ++k) {
      const float y = widen(row.stored(x[k]));
      if (from + k < row.count && y == value && row.keeps(left, y, from + k)) found |= 1u << k;
    }
    return found;
  };
  unsigned mine = 0;
  for (unsigned from = first; from < first + each && from < row.count; from += 8) mine += __popc(those(from));
  const Counted counted = count_before(mine, of_warps);
  unsigned before = counted.before;
  unsigned* const counts = (unsigned*)places.ties + 16 * call;
  unsigned* const found = (unsigned*)places.others + call;
  if (threadIdx.x == 0) counts[row.rank] = counted.all;
  meet();
  for (unsigned rank = 0; rank < row.rank; ++rank) before += load(counts + rank);
  if (before < wanted && wanted <= before + mine) {
    unsigned from = first, bits = those(from);
    for (; before + __popc(bits) < wanted; from += 8, bits = those(from)) before += __popc(bits);
    for (; before + 1 < wanted; ++before) bits &= bits - 1;
    *found = from + __ffs(bits);
  }
  meet();
  return load(found);
}
