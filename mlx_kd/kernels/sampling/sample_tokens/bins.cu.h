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
  unsigned copies;  // of the counts while a block counts: lanes next to one another have other ones
  bool is_near;     // the blocks of a cluster read one another's counts in shared memory, after the bins

  // How many are in a bin and those before it.
  static __device__ unsigned& up_to(unsigned bin) { return memory[bin]; }
  __device__ unsigned of(T y) const { return (unsigned)(first - order_of(y)); }
  __device__ float value(unsigned bin) const { return widen(of_order(first - (int)bin)); }
  __device__ unsigned before(unsigned bin) const { return bin == 0 ? 0 : up_to(bin - 1); }
  __device__ unsigned* counts() const { return memory + (is_near ? span + 4 : 0); }
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
  Bins bins = {parts, parts + (unsigned long long)row.ranks * kBins, order_of(narrow(row.best)), 0, 1, false};
  const float least = fmaxf(rounded(row.floor - row.minus), kFaint);
  bins.span = min((unsigned)max(bins.first - order_of(narrow(least)), 0) + 1, kBins);
  const unsigned words = kBins - (row.is_kept ? row.size() / 2 : 0);
  bins.is_near = bins.span <= 4 * kThreads && 2 * bins.span + 4 <= words;
  if (4 * bins.span + (bins.is_near ? bins.span + 4 : 0) <= words) bins.copies = 4;
  return bins;
}

// Over the lanes up to this one.
static __device__ unsigned sum_until(unsigned sum) {
  for (unsigned by = 1; by < 32; by *= 2) {
    const unsigned other = __shfl_up_sync(kAll, sum, by);
    if (by <= lane_id()) sum += other;
  }
  return sum;
}

struct Counted {
  unsigned before, all;
};

// All threads of the block get what comes before theirs, and the sum of all.
static __device__ __noinline__ Counted count_before(unsigned mine, unsigned* of_warps) {
  const unsigned sum = sum_until(mine);
  __syncthreads();
  if (lane_id() == 31) of_warps[warp_id()] = sum;
  __syncthreads();
  const unsigned of_warp = of_warps[lane_id()];
  return {sum - mine + count_of_warp(lane_id() < warp_id() ? of_warp : 0), count_of_warp(of_warp)};
}

// Adds the copies, and the parts of all blocks. Where there are few bins each block does it, else each some,
// for all.
static __device__ void add_near(const Row& row, const Bins& bins) {
  unsigned* const counts = bins.counts();
  for (unsigned bin = threadIdx.x; bin < bins.span; bin += kThreads) {
    unsigned sum = counts[bin];
#pragma unroll
    for (unsigned copy = 1; copy < 4; ++copy)
      if (copy < bins.copies) sum += counts[copy * bins.span + bin];
    counts[bin] = sum;
  }
  meet();
  const unsigned rank = row.rank, ranks = row.ranks;
#pragma unroll 1
  for (unsigned bin = threadIdx.x; bin < bins.span; bin += kThreads) {
    unsigned of_rank[16], sum = 0;
#pragma unroll
    for (unsigned i = 0; i < 16; ++i) of_rank[i] = i < ranks ? load(there(counts + bin, (rank + i) & (ranks - 1))) : 0;
#pragma unroll
    for (unsigned i = 0; i < 16; ++i) sum += of_rank[i];
    bins.up_to(bin) = sum;
  }
  __syncthreads();
}

static __device__ __noinline__ void add_far(const Row& row, const Bins& bins) {
  for (unsigned bin = threadIdx.x; bin < bins.span; bin += kThreads) {
    unsigned sum = 0;
#pragma unroll
    for (unsigned copy = 0; copy < 4; ++copy)
      if (copy < bins.copies) sum += bins.up_to(copy * bins.span + bin);
    bins.parts[row.rank * kBins + bin] = sum;
  }
  meet();
  const auto sum_of = [&](unsigned bin) {
    unsigned sum = 0;
#pragma unroll
    for (unsigned rank = 0; rank < 16; ++rank)
      if (rank < row.ranks) sum += load(bins.parts + rank * kBins + bin);
    return sum;
  };
  if (bins.span <= 2 * kThreads) {
#pragma unroll 1
    for (unsigned bin = threadIdx.x; bin < bins.span; bin += kThreads) bins.up_to(bin) = sum_of(bin);
  } else {
#pragma unroll 1
    for (unsigned bin = row.rank * kThreads + threadIdx.x; bin < bins.span; bin += row.ranks * kThreads)
      bins.whole[bin] = sum_of(bin);
    meet();
    for (unsigned bin = threadIdx.x; bin < bins.span; bin += kThreads) bins.up_to(bin) = load(bins.whole + bin);
  }
  __syncthreads();
}

// Counts what is left, or all. The whole cluster.
static __device__ __noinline__ void fill_bins(const Row& row, Kept left, bool all, const Bins& bins, unsigned* of_warps) {
  __shared__ unsigned none;  // counts what is not counted, so that nothing branches
  const unsigned span = bins.span, words = bins.copies * span, size = row.size();
  for (unsigned i = threadIdx.x; i < words; i += kThreads) bins.counts()[i] = 0;
  __syncthreads();
  const int first = bins.first;
  const float minus = row.minus;
  unsigned* const counts = bins.counts() + lane_id() % bins.copies * span;
  for (unsigned from = threadIdx.x * 8; from < size; from += kThreads * 8) {
    const Eight x = row.load_own(from);
    const unsigned kept = all ? 255 : kept_of_any(row, left, x, row.at(from));
#pragma unroll
    for (unsigned k = 0; k < 8; ++k) {
      const unsigned bin = (unsigned)(first - order_of(stored_of(x[k], minus)));
      atomicAdd(bin < span && (kept >> k & 1) ? counts + bin : &none, 1u);
    }
  }
  __syncthreads();
  if (bins.is_near)
    add_near(row, bins);
  else
    add_far(row, bins);
  const unsigned each = divide_up(span, kThreads), begin = min(threadIdx.x * each, span), end = min(begin + each, span);
  unsigned sum = 0;
  for (unsigned bin = begin; bin < end; ++bin) sum += bins.up_to(bin);
  sum = count_before(sum, of_warps).before;
  for (unsigned bin = begin; bin < end; ++bin) sum += bins.up_to(bin), bins.up_to(bin) = sum;
  __syncthreads();
}

// The index after the `wanted`-th (from 1) of those left whose log probability is `value`. The whole cluster; `call`
// tells apart its calls for a row. Blocks count in their units of 256 logits; then each adds up those of all, and the
// block that has the unit finds the logit.
static __device__ __noinline__ unsigned end_of_equals(const Row& row, Kept left, float value, unsigned wanted, unsigned call,
                                                       const Bins& bins) {
  const unsigned units = divide_up(row.count, 256), shift = row.shift, rank = row.rank;
  unsigned* const counts = bins.parts + (bins.span <= 2 * kThreads ? 2 * kThreads : 0);  // others may still read parts
  const auto those = [&](unsigned own) {  // a bit for each of the 8 of a lane
    const Eight x = row.load_own(own * 256 + lane_id() * 8);
    unsigned found = 0;
#pragma unroll
    for (unsigned k = 0; k < 8; ++k) found |= (widen(row.stored(x[k])) == value ? 1u : 0u) << k;
    if (!__any_sync(kAll, found != 0)) return 0u;
    return found & row.kept_of(left, x, row.at(own * 256 + lane_id() * 8));
  };
#pragma unroll 1
  for (unsigned own = warp_id(); (own << shift | rank) < units; own += kWarps) {
    const unsigned sum = count_of_warp(__popc(those(own)));
    if (lane_id() == 0) counts[own << shift | rank] = sum;
  }
  meet();
  unsigned* const found = (unsigned*)Places(row).others() + call;
  if (warp_id() == 0) {
    unsigned before = 0;
#pragma unroll 1
    for (unsigned from = 0; from < units; from += 128) {
      unsigned of_lane[4], sum = 0;
#pragma unroll
      for (unsigned k = 0; k < 4; ++k) {
        const unsigned unit = from + lane_id() * 4 + k;
        of_lane[k] = unit < units ? load(counts + unit) : 0;
        sum += of_lane[k];
      }
      unsigned until = sum_until(sum), at = before + until - sum;
      const unsigned those_with = __ballot_sync(kAll, before + until >= wanted);
      if (those_with == 0) {
        before += __shfl_sync(kAll, until, 31);
        continue;
      }
      unsigned unit = from + lane_id() * 4;
#pragma unroll
      for (unsigned k = 0; k < 3; ++k)
        if (unit == from + lane_id() * 4 + k && at + of_lane[k] < wanted) at += of_lane[k], ++unit;
      const unsigned lane = __ffs(those_with) - 1;
      unit = __shfl_sync(kAll, unit, lane), at = __shfl_sync(kAll, at, lane);
      if ((unit & (row.ranks - 1)) == rank) {
        unsigned bits = those(unit >> shift), mine = __popc(bits), last = at + sum_until(mine);
        if (last >= wanted && last - mine < wanted) {
          for (unsigned skip = wanted - 1 - (last - mine); skip > 0; --skip) bits &= bits - 1;
          *found = unit * 256 + lane_id() * 8 + __ffs(bits);
        }
      }
      break;
    }
  }
  meet();
  return load(found);
}
