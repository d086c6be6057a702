// clang-format off
// The draw of a token, as mx.random.categorical makes it: of one row by the inverse of its cumulative
// distribution, of several rows as the largest of scores with Gumbel noise.
#pragma once
#include "filters.cu.h"

struct Weights {
  using Loaded = Eight;
  const Row& row;
  const Kept& kept;
  float by, largest, most;  // 1 / temperature; the largest that is left, and that as it is scaled
  float enough;    // a logit below it is not left

  __device__ Weights(const Row& row, const Kept& kept, float by, float largest)
      : row(row), kept(kept), by(by), largest(largest), most(rounded(largest * by)) {
    const float least = fmaxf(kept.least, kept.kth);
    enough = isinf(most) || isinf(least) ? -infinity() : least + row.minus - 0x1p-6f * (fabsf(least) + 1.0f);
  }
  __device__ float of(T logit, unsigned i) const {
    const float y = widen(row.stored(logit));
    return !isinf(most) ? row.keeps(kept, y, i) ? expf(rounded(y * by) - most) : 0.0f : of_infinite(y, i);
  }
  __device__ float of_infinite(float y, unsigned i) const {
    return i < row.count && (row.keeps(kept, y, i) ? rounded(y * by) : -infinity()) == most ? 1.0f : 0.0f;
  }
  __device__ Eight load(unsigned first) const { return row.load_eight(first); }
  // Whether none of the warp's logits can be left.
  __device__ bool are_none(const Eight& logits) const {
    return enough > -infinity() && !__any_sync(kAll, logits.most() >= enough);
  }
  // False, for the whole warp, where all are 0.
  __device__ bool terms(unsigned first, const Eight& logits, float (&to)[8]) const {
    if (are_none(logits)) return false;
#pragma unroll
    for (unsigned i = 0; i < 8; ++i) to[i] = of(logits[i], first + i);
    return true;
  }
  // Four from a position on, a multiple of 4.
  __device__ float4 at(unsigned position) const {
    Eight logits = row.load_eight(position / 8 * 8);
    if (position % 8 != 0) logits.bits.x = logits.bits.z, logits.bits.y = logits.bits.w;
    logits.bits.z = logits.bits.x, logits.bits.w = logits.bits.y;
    if (are_none(logits)) return {};
    return {of(logits[0], position), of(logits[1], position + 1), of(logits[2], position + 2), of(logits[3], position + 3)};
  }
};

static __device__ __noinline__ float4 weights_at(Row row, Kept kept, float by, float largest, unsigned position) {
  return Weights(row, kept, by, largest).at(position);
}

// Of what is left.
static __device__ float largest_left(const Row& row, const Kept& kept) {
  if (kept.most == infinity()) return row.best;
  float most = kept.most;
  for (unsigned s = 0; s < row.special; ++s) {
    const int id = row.special_tokens[s] < 0 ? row.special_tokens[s] + (int)row.count : row.special_tokens[s];
    if (id < 0 || id >= (int)row.count) continue;
    const float y = row.logprob(id);
    if (row.keeps(kept, y, id)) most = fmaxf(most, y);
  }
  return most;
}

// What is known of the sums: all before first_above are at most u, none after last_below is.
struct Edge {
  unsigned first_above, last_below;
};

// Over all threads of the block.
static __device__ Edge edge_of_block(Edge edge, unsigned* of_warps) {
  edge.first_above = __reduce_min_sync(kAll, edge.first_above);
  edge.last_below = __reduce_max_sync(kAll, edge.last_below);
  __syncthreads();
  if (lane_id() == 0) of_warps[warp_id()] = edge.first_above;
  __syncthreads();
  edge.first_above = __reduce_min_sync(kAll, of_warps[lane_id()]);
  __syncthreads();
  if (lane_id() == 0) of_warps[warp_id()] = edge.last_below;
  __syncthreads();
  edge.last_below = __reduce_max_sync(kAll, of_warps[lane_id()]);
  return edge;
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
    const float4 four = weights_at(row, weights.kept, weights.by, weights.largest, tile * tiles.length + threadIdx.x * 4);
    const float4 sums = sums_in_tile(tiles, places.weights, shared.prefix, tile, four);
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
  edge = edge_of_block(edge, shared.of_warps);
  if (edge.last_below < edge.first_above) return edge.first_above - 1;
  unsigned low = 0, high = row.count;
  while (low < high) {
    const unsigned middle = low + (high - low) / 2;
    bool is_below = middle < edge.first_above;
    if (!is_below && middle <= edge.last_below) {
      const unsigned at = middle - 1, of_tile = tiles.in_tile(at);
      __syncthreads();
      if (warp_id() < tiles.units) {
        const unsigned tile = tiles.tile_of(at);
        const float4 four = weights_at(row, weights.kept, weights.by, weights.largest, tile * tiles.length + threadIdx.x * 4);
        const float4 sums = sums_in_tile(tiles, places.weights, shared.prefix, tile, four);
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

// The token is that of rank 0.
static __device__ unsigned draw_alone(const Row& row, const Places& places, const Kept& kept, float by, Key key,
                                      const Shared& shared) {
  const Weights weights(row, kept, by, largest_left(row, kept));
  const Tiles tiles(row.count);
  const Blocks blocks(row.count);
  const unsigned mine = blocks.count > row.rank ? divide_up(blocks.count - row.rank, row.ranks) : 0;
  const bool is_one = blocks.count == 1;  // then blocks of the cluster share its units, else they have whole ones
#pragma unroll 1
  for (unsigned i = warp_id(); is_one ? i * row.ranks + row.rank < blocks.units : i < mine * 16; i += kWarps) {
    const unsigned block = is_one ? 0 : row.rank + i / 16 * row.ranks, unit = is_one ? i * row.ranks + row.rank : i % 16;
    const float sum = sum_of_unit(blocks, row.count, block, unit, weights);
    if (lane_id() == 0) places.of_units[block * blocks.units + unit] = sum;
  }
#pragma unroll 1
  for (unsigned i = kWarps - 1 - warp_id(); i < row.size() / 128; i += kWarps) {
    const unsigned first = row.at(i * 128);
    if (first >= tiles.count * tiles.length) continue;
    scan_one(tiles, places.weights, tiles.tile_of(first), tiles.in_tile(first) / 128, weights.at(first + lane_id() * 4));
  }
  meet();
  if (row.rank != 0) return 0;
  const float all = sum_of_units(blocks, places.of_units, shared.of_blocks);
  sum_tiles(tiles, places.weights, shared.prefix, shared.steps);
  return last_below(row, places, tiles, weights, __fmul_rn(uniform_of(key, 0, 1), all), shared);
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
static __device__ __noinline__ Best best_of_all(Row row, Best best, Shared shared) {
  const Places places(row);
  best = best_of_warp(best);
  __syncthreads();
  if (lane_id() == 0) shared.of_blocks[warp_id()] = best.score, shared.of_warps[warp_id()] = best.id;
  __syncthreads();
  best = best_of_warp({shared.of_blocks[lane_id()], shared.of_warps[lane_id()]});
  if (threadIdx.x == 0) places.best[row.rank] = best.score, ((unsigned*)places.best_ids)[row.rank] = best.id;
  meet();
  const bool has = lane_id() < row.ranks;
  return best_of_warp({has ? load(places.best + lane_id()) : -infinity(),
                       has ? load((const unsigned*)places.best_ids + lane_id()) : 0u});
}

// Row row.index of `rows` that are drawn together with one key.
static __device__ unsigned draw_together(const Row& row, const Kept& kept, float by, Key key,
                                         unsigned rows, const Shared& shared) {
  Best best = {-infinity(), 0};
  for (unsigned from = threadIdx.x * 8; from < row.size(); from += kThreads * 8) {
    const unsigned first = row.at(from);
    const Eight x = row.load_eight(first);
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

static __device__ unsigned first_best(const Row& row, const Shared& shared) {
  Best best = {-infinity(), 0};
  for (unsigned from = threadIdx.x * 8; from < row.size(); from += kThreads * 8) {
    const unsigned first = row.at(from);
    const Eight x = row.load_eight(first);
#pragma unroll
    for (unsigned k = 0; k < 8; ++k)
      if (widen(row.stored(x[k])) == row.best) best.offer(0.0f, first + k);
  }
  return best_of_all(row, best, shared).id;
}
