// clang-format off
// mlx-lm's filters in its order: top_p, min_p, xtc, top_k.
#pragma once
#include "bins.cu.h"

// Shared memory of a block.
struct Shared {
  float* prefix;       // (tiles + 1)
  float* of_blocks;    // (1024)
  unsigned* of_warps;  // (kWarps)
  float* one;          // (1)
  float4* steps;       // (64)
};

// Relative to a sum: what its parts in another order are off by, and more.
constexpr float kRoom = 0x1p-17f;

// Probabilities in descending order.
struct Masses {
  const Bins& bins;

  __device__ float of(unsigned bin) const { return bin < bins.span ? expf(bins.value(bin)) : 0.0f; }

  // Four from a position on, whose bins lie in [low, high].
  __device__ float4 between(unsigned position, unsigned low, unsigned high) const {
    unsigned bin[4] = {low, low, low, low};
    for (unsigned step = high == low ? 0 : 1u << (31 - __clz(high - low)); step > 0; step /= 2) {
#pragma unroll
      for (unsigned i = 0; i < 4; ++i)
        if (bin[i] + step <= high && bins.up_to(bin[i] + step - 1) <= position + i) bin[i] += step;
    }
    return {of(bin[0]), of(bin[1]), of(bin[2]), of(bin[3])};
  }
  // Of each lane; lanes have consecutive fours.
  __device__ float4 at(unsigned position) const {
    const unsigned from = position - 4 * lane_id(), low = bins.at(from);
    return between(position, low, low == bins.span || bins.up_to(low) > from + 127 ? low : bins.at(from + 127));
  }
};

static __device__ __noinline__ float4 masses_at(const Bins& bins, unsigned position) {
  return Masses{bins}.at(position);
}

// Of the tiles whose sums may lie on either side of `edge`, the first and the last; and how many of `of_tile`(tile)
// lie in tiles all of whose sums are at least that. Each warp finds it.
struct Around {
  unsigned first, last, above;
};

template <class Count>
static __device__ Around around(const Tiles& tiles, const float* prefix, float edge, Count of_tile) {
  Around found = {~0u, 0, 0};
#pragma unroll 1
  for (unsigned tile = lane_id(); tile < tiles.count; tile += 32) {
    if (prefix[tile] * (1.0f - kRoom) >= edge) {
      found.above += of_tile(tile);
    } else if (prefix[tile + 1] * (1.0f + kRoom) >= edge) {
      found.first = min(found.first, tile), found.last = max(found.last, tile + 1);
    }
  }
  return {__reduce_min_sync(kAll, found.first), __reduce_max_sync(kAll, found.last), count_of_warp(found.above)};
}

// The bin in which the sum of probabilities in descending order comes to top_p of all, where sums in another order
// tell; else bins.span. All threads of the block.
static __device__ unsigned crossing_of(unsigned count, float top_p, const Bins& bins, const Shared& shared) {
  if (bins.span > 4 * kThreads) return bins.span;
  const unsigned each = divide_up(bins.span, kThreads), begin = min(threadIdx.x * each, bins.span), end = min(begin + each, bins.span);
  const auto mass_of = [&](unsigned bin) { return (float)(bins.up_to(bin) - bins.before(bin)) * expf(bins.value(bin)); };
  float mine = 0.0f, first = 0.0f;
#pragma unroll 1
  for (unsigned bin = begin; bin < end; ++bin) {
    const float mass = mass_of(bin);
    if (bin == begin) first = mass;
    mine = mine + mass;
  }
  float before = sum_before(mine);
  if (lane_id() == 31) shared.of_blocks[warp_id()] = before + mine;
  if (threadIdx.x == 0) *shared.of_warps = bins.span;
  __syncthreads();
  const float of_warp = shared.of_blocks[lane_id()], all = sum_of_warp(of_warp);
  before = __shfl_sync(kAll, sum_before(of_warp), warp_id()) + before;
  const float enough = top_p * all;
  if (all > 0x1p-80f && all < 0x1p100f) {
#pragma unroll 1
    for (unsigned bin = begin; bin < end; ++bin) {
      const float until = before + (bin == begin ? first : mass_of(bin));
      // MLX adds thrice for a tile, up to here and for all, and within tiles, and this within the block.
      const unsigned additions = 3 * (divide_up(bins.up_to(bin), 4096) + divide_up(count, 4096)) + 72;
      const float unsure = (float)additions * 0x1p-24f;
      if (before < enough * (1.0f - unsure) && until > enough * (1.0f + unsure)) *shared.of_warps = bin;
      before = until;
    }
  }
  __syncthreads();
  const unsigned found = *shared.of_warps;
  __syncthreads();
  return found;
}

// The least log probability that top_p leaves. MLX sorts ascending, adds in reverse, and drops as many as have at
// least top_p of all above them.
static __device__ __noinline__ float threshold_as_mlx(const Row& row, float top_p, const Bins& bins, const Shared& shared) {
  const Places places(row);
  const Tiles tiles(row.count);
  const Masses masses{bins};
  const unsigned before_last = row.count - 2, last_tile = tiles.tile_of(before_last), in_last = tiles.in_tile(before_last);
  const unsigned all_units = tiles.count * tiles.units, warps = kWarps * row.ranks, warp = row.rank * kWarps + warp_id();
  const Scan sums = places.masses();
#pragma unroll 1
  for (unsigned base = 0; base < all_units; base += 32 * warps) {
    // Units of one value, and that before the last, by a thread each; others by the warp.
    const unsigned mine = base + lane_id() * warps + warp;
    const unsigned of_mine = tiles.unit_in_tile(mine), from = tiles.tile_of_unit(mine) * tiles.length + of_mine * 128;
    const unsigned low = mine < all_units ? bins.between(from, 0, bins.span) : bins.span;
    const unsigned high = low == bins.span || bins.up_to(low) > from + 127 ? low : bins.between(from + 127, low, bins.span);
    const bool has_last = tiles.tile_of_unit(mine) == last_tile && of_mine == in_last / 128;
    const bool is_one = low == high && !has_last;
    if (mine < all_units && is_one) write_ends(tiles, sums, tiles.tile_of_unit(mine), of_mine, ends_of_equals(masses.of(low)));
    unsigned others = __ballot_sync(kAll, mine < all_units && !is_one);
#pragma unroll 1
    for (; others != 0; others &= others - 1) {
      const unsigned lane = __ffs(others) - 1, unit = base + lane * warps + warp;
      const unsigned tile = tiles.tile_of_unit(unit), of_tile = tiles.unit_in_tile(unit);
      const float4 four = masses.between(tile * tiles.length + (of_tile * 32 + lane_id()) * 4, __shfl_sync(kAll, low, lane),
                                         __shfl_sync(kAll, high, lane));
      const float terms[4] = {four.x, four.y, four.z, four.w};
      const Scanned made = scan_unit(terms);
      if (lane_id() == 31) write_ends(tiles, sums, tile, of_tile, {made.sums[3], made.before});
      if (tile == last_tile && of_tile == in_last / 128 && lane_id() == in_last % 128 / 4) {
        places.others()[2] = element({made.sums[0], made.sums[1], made.sums[2], made.sums[3]}, in_last % 4);
        places.others()[3] = made.before;
      }
    }
  }
  meet();
  const float in_thread = load(places.others() + 2), in_unit = load(places.others() + 3);
  sum_tiles(tiles, sums, shared.prefix, shared.steps, last_tile, in_last / 128, shared.one);
  const float sum = ((in_thread + shared.prefix[last_tile]) + *shared.one) + in_unit;
  const float enough = __fmul_rn(top_p, sum + masses.of(bins.at(row.count - 1)));
  const auto of_tile = [&](unsigned tile) { return min(tiles.length, before_last + 1 - min(tile * tiles.length, before_last + 1)); };
  const Around found = around(tiles, shared.prefix, enough, of_tile);
  unsigned dropped = threadIdx.x == 0 ? found.above : 0;
  for (unsigned tile = found.first; tile < found.last; ++tile) {
    if (shared.prefix[tile] * (1.0f - kRoom) >= enough) continue;
    if (warp_id() >= tiles.units) continue;
    const float of_units = units_of_tile(tiles, sums, tile);
    const float4 four = masses_at(bins, tile * tiles.length + threadIdx.x * 4);
    const float4 made = sums_in_tile(shared.prefix[tile], of_units, four);
#pragma unroll 1
    for (unsigned i = 0; i < 4; ++i) dropped += threadIdx.x * 4 + i < of_tile(tile) && element(made, i) >= enough;
  }
  const unsigned bin = bins.at(row.count - 1 - count_before(dropped, shared.of_warps).all);
  return bin < bins.span ? bins.value(bin) : -infinity();
}

static __device__ float threshold_of(const Row& row, float top_p, const Bins& bins, const Shared& shared) {
  if (row.count == 1) return -infinity();
  const unsigned crossing = crossing_of(row.count, top_p, bins, shared);
  return crossing < bins.span ? bins.value(crossing) : threshold_as_mlx(row, top_p, bins, shared);
}

// min_p keeps what is at least the largest plus log(min_p), and the `least_kept` largest, of equals the last.
static __device__ void apply_min_p(const Row& row, const Settings& settings, const Bins& bins,
                                   const Shared& shared, Kept& kept) {
  const float least = rounded(row.best + rounded(settings.log_min_p));
  const unsigned wanted = (unsigned)settings.least_kept;
  if (wanted > 1) {
    const unsigned bin = bins.at(wanted - 1);
    const float value = bin < bins.span ? bins.value(bin) : -infinity();
    if (value < least) {
      if (value < kept.least || bin == bins.span) return;
      const unsigned equals = bins.up_to(bin) - bins.before(bin), stay = wanted - bins.before(bin);
      if (stay < equals) {
        kept.tie_from = end_of_equals(row, kept, value, equals - stay, 0, bins);
        kept.tie = value, kept.is_simple = false;
      }
      kept.least = value;
      return;
    }
  }
  kept.least = fmaxf(kept.least, least);
}

// What is left of a row, added in the order of MLX's softmax.
static __device__ void softmax_units(const Row& row, const Kept& kept, const Places& places) {
  const unsigned units = threads_of_online(row.count) / 32, unit = warp_id() << row.shift | row.rank;
  if (warp_id() >= 32u >> row.shift || unit >= units) return;
  Online mine = {kLowest, 0.0f};
  for (unsigned from = unit * 256; from < row.count; from += 8192) {
    float x[8];
    const unsigned first = from + lane_id() * 8;
    const Eight stored = row.load_eight(first);
    const unsigned bits = first < row.count ? row.kept_of(kept, stored, first) : 0;
#pragma unroll
    for (unsigned k = 0; k < 8; ++k) {
      x[k] = bits >> k & 1 ? widen(row.stored(stored[k])) : -infinity();
    }
    add_online(mine, x);
  }
  mine = online_of_warp(mine);
  if (lane_id() == 0) places.softmax_mosts()[unit] = mine.most, places.softmax_sums()[unit] = mine.sum;
}

// xtc drops the most probable, down to the least that exceeds the threshold, which stays.
static __device__ __noinline__ Kept with_xtc(const Row& row, float threshold, const Bins& bins, const Shared& shared, Kept kept) {
  const Places places(row);
  softmax_units(row, kept, places);
  meet();
  const Online all = online_of_units(places.softmax_mosts(), places.softmax_sums(), threads_of_online(row.count) / 32);
  const float by = 1.0f / all.sum, more_than = rounded(threshold);
  const auto share_of = [&](unsigned bin) { return rounded(__expf(bins.value(bin) - all.most) * by); };
  float least = infinity();
  for (unsigned bin = threadIdx.x; bin < bins.span; bin += kThreads) {
    if (bins.up_to(bin) == bins.before(bin) || bins.value(bin) < kept.least) continue;
    if (share_of(bin) > more_than) least = fminf(least, share_of(bin));
  }
  least = -most_of_warp(-least);
  __syncthreads();
  if (lane_id() == 0) shared.of_blocks[warp_id()] = least;
  __syncthreads();
  least = -most_of_warp(-shared.of_blocks[lane_id()]);
  float most = -infinity();
  for (unsigned bin = threadIdx.x; bin < bins.span; bin += kThreads)
    if (bins.up_to(bin) != bins.before(bin) && !(share_of(bin) > least)) most = fmaxf(most, bins.value(bin));
  most = most_of_warp(most);
  __syncthreads();
  if (lane_id() == 0) shared.of_blocks[warp_id()] = most;
  __syncthreads();
  kept.most = most_of_warp(shared.of_blocks[lane_id()]), kept.is_simple = false;
  __syncthreads();
  return kept;
}

// top_k keeps the largest, of equals the first.
static __device__ void apply_top_k(const Row& row, unsigned wanted, const Bins& bins,
                                   const Shared& shared, Kept& kept) {
  const unsigned bin = bins.at(wanted - 1);
  if (bin == bins.span || bins.value(bin) < kept.least) return;
  const unsigned equals = bins.up_to(bin) - bins.before(bin), stay = wanted - bins.before(bin);
  const float value = bins.value(bin);
  if (stay == equals) {
    kept.least = value;
    return;
  }
  kept.kth_until = end_of_equals(row, kept, value, stay, 1, bins);
  kept.kth = value, kept.is_simple = false;
}

// What the filters leave. The whole cluster.
static __device__ Kept filtered(const Row& row, const Settings& settings, Key xtc,
                                const Bins& bins, const Shared& shared) {
  Kept kept;
  if (settings.top_p > 0.0f && settings.top_p < 1.0f)
    kept.least = threshold_of(row, settings.top_p, bins, shared);
  if (settings.log_min_p > -infinity()) apply_min_p(row, settings, bins, shared, kept);
  const bool has_xtc = settings.xtc_probability > 0.0f && !(uniform_of(xtc, 0, 1) > settings.xtc_probability);
  if (has_xtc) kept = with_xtc(row, settings.xtc_threshold, bins, shared, kept);
  if (settings.top_k > 0.0f && settings.top_k < (float)row.count) {
    if (has_xtc || kept.tie_from > 0) fill_bins(row, kept, false, bins, shared.of_warps);
    apply_top_k(row, (unsigned)settings.top_k, bins, shared, kept);
  }
  return kept;
}

// Whether settings need the bins of a row.
static __device__ bool needs_bins(const Settings& settings, unsigned count) {
  if (settings.inverse_temperature == 0.0f) return false;
  const bool has_top_p = settings.top_p > 0.0f && settings.top_p < 1.0f;
  const bool has_top_k = settings.top_k > 0.0f && settings.top_k < (float)count;
  const bool keeps_some = settings.log_min_p > -infinity() && settings.least_kept > 1.0f;
  return has_top_p || has_top_k || keeps_some || settings.xtc_probability > 0.0f;
}
