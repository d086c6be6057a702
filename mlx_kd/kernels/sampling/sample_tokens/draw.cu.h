// clang-format off
// The draw of a token, as mx.random.categorical makes it: of one row by the inverse of its cumulative
// distribution, of several rows as the largest of scores with Gumbel noise.
#pragma once
#include "filters.cu.h"

struct Weighed {
  float of[8];
};

// The weights of 8 logits from `first` on. Where the largest is infinite, those as large as that have 1.
static __device__ __noinline__ Weighed weights_of(const Row& row, Kept kept, float by, float most, Eight logits, unsigned first) {
  Weighed all;
#pragma unroll
  for (unsigned k = 0; k < 8; ++k) {
    const float y = widen(row.stored(logits[k])), scaled = row.keeps(kept, y, first + k) ? rounded(y * by) : -infinity();
    all.of[k] = !isinf(most) ? expf(scaled - most) : first + k < row.count && scaled == most ? 1.0f : 0.0f;
  }
  return all;
}

struct Weights {
  const Row& row;
  const Kept& kept;
  float by, largest, most;  // 1 / temperature; the largest that is left, and that as it is scaled
  float enough;    // a logit below it is not left
  int first;       // the weights of log probabilities lie in shared memory in descending order, from this one on,
  unsigned span;   // so many, and a 0 for all others; or 0

  __device__ Weights(const Row& row, const Kept& kept, float by, float largest)
      : row(row), kept(kept), by(by), largest(largest), most(rounded(largest * by)), first(order_of(narrow(row.best))) {
    const float least = fmaxf(kept.least, kept.kth);
    enough = isinf(most) || isinf(least) ? -infinity() : least + row.minus - 0x1p-6f * (fabsf(least) + 1.0f);
    const int of_floor = order_of(row.stored(narrow(row.floor)));
    span = (unsigned)max(first - (isinf(least) ? of_floor : max(of_floor, order_of(narrow(least)))), 0) + 1;
    if (isinf(most) || kept.most != infinity() || span >= row.free) span = 0;
  }
  // The whole block, which has no more use for the bins.
  __device__ void fill() const {
    const float least = fmaxf(kept.least, kept.kth);
    __syncthreads();
    for (unsigned i = threadIdx.x; span > 0 && i <= span; i += kThreads) {
      const float y = widen(of_order(first - (int)i));
      ((float*)memory)[i] = i < span && y >= least ? expf(rounded(y * by) - most) : 0.0f;
    }
    __syncthreads();
  }
  // Whether none of the warp's logits can be left.
  __device__ bool are_none(const Eight& logits) const {
    return enough > -infinity() && !__any_sync(kAll, logits.most() >= enough);
  }
  // The first `count` of 8. False, for the whole warp, where all are 0.
  template <unsigned count>
  __device__ bool terms(unsigned from, const Eight& logits, float (&to)[count]) const {
    if (are_none(logits)) return false;
    if (span == 0) {
      const Weighed all = weights_of(row, kept, by, most, logits, from);
#pragma unroll
      for (unsigned i = 0; i < count; ++i) to[i] = all.of[i];
      return true;
    }
#pragma unroll
    for (unsigned i = 0; i < count; ++i)
      to[i] = ((const float*)memory)[min((unsigned)(first - order_of(row.stored(logits[i]))), span)];
    if (kept.is_simple) return true;
#pragma unroll
    for (unsigned i = 0; i < count; ++i) {
      const float y = widen(row.stored(logits[i]));
      if ((y == kept.kth && from + i >= kept.kth_until) || (y == kept.tie && from + i < kept.tie_from)) to[i] = 0.0f;
    }
    return true;
  }
  // Four from a position on, a multiple of 4.
  __device__ float4 at(unsigned position) const {
    Eight logits = row.load_eight(position / 8 * 8);
    if (position % 8 != 0) logits.bits.x = logits.bits.z, logits.bits.y = logits.bits.w;
    logits.bits.z = logits.bits.x, logits.bits.w = logits.bits.y;
    float to[4];
    if (!terms(position, logits, to)) return {};
    return {to[0], to[1], to[2], to[3]};
  }
};

static __device__ __noinline__ float4 weights_at(const Row& row, Kept kept, float by, float largest, unsigned position) {
  return Weights(row, kept, by, largest).at(position);
}

// Of what is left; special tokens may be above the most that xtc leaves.
static __device__ __noinline__ float largest_of_xtc(const Row& row, Kept kept) {
  float most = kept.most;
  for (unsigned s = 0; s < row.special; ++s) {
    const int id = row.special_tokens[s] < 0 ? row.special_tokens[s] + (int)row.count : row.special_tokens[s];
    if (id < 0 || id >= (int)row.count) continue;
    const float y = row.logprob(id);
    if (row.keeps(kept, y, id)) most = fmaxf(most, y);
  }
  return most;
}

static __device__ float largest_left(const Row& row, const Kept& kept) {
  return kept.most == infinity() ? row.best : largest_of_xtc(row, kept);
}

// What is known of the sums: all before first_above are at most u, none after last_below is.
struct Edge {
  unsigned first_above, last_below;
};

// Over all threads of the block.
static __device__ __noinline__ Edge edge_of_block(Edge edge, unsigned* of_warps, unsigned* others) {
  edge.first_above = __reduce_min_sync(kAll, edge.first_above);
  edge.last_below = __reduce_max_sync(kAll, edge.last_below);
  __syncthreads();
  if (lane_id() == 0) of_warps[warp_id()] = edge.first_above, others[warp_id()] = edge.last_below;
  __syncthreads();
  return {__reduce_min_sync(kAll, of_warps[lane_id()]), __reduce_max_sync(kAll, others[lane_id()])};
}

// The steps of MLX's binary search where rounding makes sums descend.
static __device__ __noinline__ unsigned searched(const Row& row, Kept kept, float by, float largest, Edge edge, float u, const Shared& shared) {
  const Tiles tiles(row.count);
  const Places places(row);
  unsigned low = 0, high = row.count;
  while (low < high) {
    const unsigned middle = low + (high - low) / 2;
    bool is_below = middle < edge.first_above;
    if (!is_below && middle <= edge.last_below) {
      const unsigned at = middle - 1, of_tile = tiles.in_tile(at);
      __syncthreads();
      if (warp_id() < tiles.units) {
        const unsigned tile = tiles.tile_of(at);
        const float of_units = units_of_tile(tiles, places.weights(), tile);
        const float4 four = weights_at(row, kept, by, largest, tile * tiles.length + threadIdx.x * 4);
        const float4 sums = sums_in_tile(shared.prefix[tile], of_units, four);
        if (of_tile / 4 == threadIdx.x) *shared.one = element(sums, of_tile % 4);
      }
      __syncthreads();
      is_below = *shared.one <= u;
    }
    low = is_below ? middle + 1 : low;
    high = is_below ? high : middle;
  }
  return low - 1;
}

// What MLX's binary search finds, less 1: the last i with sum(terms[0, i)) <= u, where the sums ascend. Where they
// do not, for rounding, its steps are taken.
static __device__ unsigned last_below(const Row& row, const Places& places, const Tiles& tiles, const Weights& weights,
                                      float u, const Shared& shared) {
  Edge edge = {row.count, 0};
  for (unsigned tile = lane_id(); tile < tiles.count; tile += 32) {
    const unsigned from = tile * tiles.length + 1;  // sums[i] of a tile is that before the element from + i
    if (from >= row.count) break;
    if (shared.prefix[tile + 1] * (1.0f + kRoom) <= u)
      edge.last_below = max(edge.last_below, min(from + tiles.length, row.count) - 1);
    else if (shared.prefix[tile] * (1.0f - kRoom) > u)
      edge.first_above = min(edge.first_above, from);
  }
  const Around found = around(tiles, shared.prefix, u, [](unsigned) { return 0u; });
  for (unsigned tile = min(found.first, tiles.count); tile < tiles.count; ++tile) {
    const unsigned from = tile * tiles.length + 1, end = min(from + tiles.length, row.count);
    if (from >= row.count || shared.prefix[tile] * (1.0f - kRoom) > u) break;
    if (shared.prefix[tile + 1] * (1.0f + kRoom) <= u || warp_id() >= tiles.units) continue;
    const float of_units = units_of_tile(tiles, places.weights(), tile);
    const float4 four = weights_at(row, weights.kept, weights.by, weights.largest, tile * tiles.length + threadIdx.x * 4);
    const float4 sums = sums_in_tile(shared.prefix[tile], of_units, four);
#pragma unroll 1
    for (unsigned i = 0; i < 4; ++i) {
      const unsigned at = from + threadIdx.x * 4 + i;
      if (at >= end) continue;
      if (element(sums, i) <= u)
        edge.last_below = max(edge.last_below, at);
      else
        edge.first_above = min(edge.first_above, at);
    }
  }
  edge = edge_of_block(edge, shared.of_warps, (unsigned*)shared.of_blocks);
  if (edge.last_below < edge.first_above) return edge.first_above - 1;
  return searched(row, weights.kept, weights.by, weights.largest, edge, u, shared);
}

// The sums of the units of MLX's sum, and of its scan, whose logits a block has. MLX's scan has 128 in a unit.
static __device__ void sum_weights(const Row& row, const Places& places, const Tiles& tiles, const Weights& weights) {
  const Blocks blocks(row.count);
  const Scan sums = places.weights();
  const unsigned bits = 4 - row.shift;  // of 16 units of MLX's blocks, where there are several
  const unsigned all = blocks.count > 1 ? blocks.count << bits : (blocks.units - row.rank + row.ranks - 1) >> row.shift;
#pragma unroll 1
  for (unsigned i = warp_id(); i < all && row.rank < blocks.units; i += kWarps) {
    const unsigned block = blocks.count > 1 ? i >> bits : 0;
    const unsigned unit = (blocks.count > 1 ? i & ((1u << bits) - 1) : i) << row.shift | row.rank;
    float sum = 0.0f;
#pragma unroll 1
    for (unsigned step = 0; step < blocks.steps; ++step) {
      const unsigned from = ((block * blocks.steps + step) * blocks.units + unit) * 256;
      if (from >= row.count) break;
      float terms[8];
      Ends ends = {};
      const Eight logits = row.load_own(row.local(from) + lane_id() * 8);
      if (weights.terms(from + lane_id() * 8, logits, terms)) {
#pragma unroll
        for (int k = 0; k < 8; ++k) sum = sum + terms[k];
        ends = ends_of_units(terms);
      }
      if (lane_id() % 16 == 15) write_ends(tiles, sums, tiles.tile_of(from), tiles.in_tile(from) / 128 + lane_id() / 16, ends);
    }
    sum = sum_of_warp(sum);
    if (lane_id() == 0) places.of_units()[block * blocks.units + unit] = sum;
  }
  // Units past the end.
  const unsigned past = divide_up(row.count, 256) * 2 + threadIdx.x;
  if (row.rank == 0 && past < tiles.count * tiles.units)
    write_ends(tiles, sums, tiles.tile_of_unit(past), tiles.unit_in_tile(past), {});
}

// The token is that of rank 0.
static __device__ unsigned draw_alone(const Row& row, const Places& places, const Kept& kept, float by, float uniform,
                                      const Shared& shared) {
  const Weights weights(row, kept, by, largest_left(row, kept));
  const Tiles tiles(row.count);
  weights.fill();
  sum_weights(row, places, tiles, weights);
  meet();
  if (row.rank != 0) return 0;
  const float all = sum_of_units(Blocks(row.count), places.of_units(), shared.of_blocks);
  sum_tiles(tiles, places.weights(), shared.prefix, shared.steps, ~0u, 0, shared.one);
  return last_below(row, places, tiles, weights, __fmul_rn(uniform, all), shared);
}

struct Best {
  float score;
  unsigned id;

  // Of equals the first.
  __device__ void offer(float other, unsigned at) {
    if (other > score || (other == score && at < id)) score = other, id = at;
  }
};

static __device__ Best best_of_warp(Best best) {
  for (int other = 16; other > 0; other /= 2)
    best.offer(__shfl_xor_sync(kAll, best.score, other), __shfl_xor_sync(kAll, best.id, other));
  return best;
}

// Of each thread's best that of the cluster; the whole cluster, and rank 0 gets it.
static __device__ __noinline__ Best best_of_all(const Row& row, Best best, const Shared& shared) {
  const Places places(row);
  best = best_of_warp(best);
  __syncthreads();
  if (lane_id() == 0) shared.of_blocks[warp_id()] = best.score, shared.of_warps[warp_id()] = best.id;
  __syncthreads();
  best = best_of_warp({shared.of_blocks[lane_id()], shared.of_warps[lane_id()]});
  if (threadIdx.x == 0) places.best()[row.rank] = best.score, places.best_ids()[row.rank] = best.id;
  meet();
  const bool has = lane_id() < row.ranks;
  return best_of_warp({has ? load(places.best() + lane_id()) : -infinity(),
                       has ? load(places.best_ids() + lane_id()) : 0u});
}

// Row row.index of `rows` that are drawn together with one key.
static __device__ __noinline__ unsigned draw_together(const Row& row, Kept kept, float by, Key key, unsigned rows, const Shared& shared) {
  Best best = {-infinity(), 0};
  for (unsigned from = threadIdx.x * 8; from < row.size(); from += kThreads * 8) {
    const unsigned first = row.at(from);
    const Eight x = row.load_own(from);
#pragma unroll 1
    for (unsigned k = 0; k < 8; ++k) {
      const float y = widen(row.stored(x[k]));
      if (first + k >= row.count || !row.keeps(kept, y, first + k)) continue;
      const float u = uniform_of(key, row.index * row.count + first + k, rows * row.count);
      best.offer(-logf(-logf(u)) + rounded(y * by), first + k);
    }
  }
  return best_of_all(row, best, shared).id;
}

static __device__ __noinline__ unsigned first_best(const Row& row, const Shared& shared) {
  Best best = {-infinity(), 0};
  for (unsigned from = threadIdx.x * 8; from < row.size(); from += kThreads * 8) {
    const unsigned first = row.at(from);
    const Eight x = row.load_own(from);
#pragma unroll
    for (unsigned k = 0; k < 8; ++k)
      if (widen(row.stored(x[k])) == row.best) best.offer(0.0f, first + k);
  }
  return best_of_all(row, best, shared).id;
}
