// clang-format off
// sample_tokens: a token of each row of logits, drawn as mlx-lm's chain draws it on MLX's CUDA back end, without a sort;
// of 16 bits bit for bit (sums.cu.h, bins.cu.h), but for xtc, whose probabilities MLX adds in 16 bits and this in
// float32; of float32 by distribution (float32.cu.h).
//
// inputs: logits (B, V), key uint32 (2) or (keys, 2), special_tokens int32 (special), settings float32 (B, 7) or
// none; outputs: token uint32 (B), logprob float32 (B), top_tokens uint32 (B, top), top_logprobs float32 (B, top).
// A cluster of up to 16 blocks of 1,024 threads takes a row. Scratch, for each row: an exchange area (whose last number
// is a counter), bins of each block and of the row, and candidates for the largest (2 V where top > 0). Dynamic
// shared memory: the bins, and the sum before each tile of a scan. cuda_variant.cpp has the sizes.
//
// A row with NaN, +inf, or -inf alone gives token 0 and NaN.
#ifndef KD_DTYPE
#define KD_DTYPE 2  // 0 float32, 1 float16, 2 bfloat16
#endif
#ifndef KD_DIM_B
#define KD_DIM_B 0
#define KD_DIM_V 1
#define KD_DIM_top 2
#define KD_DIM_normalised 3
#define KD_DIM_special 4
#define KD_DIM_each_row 5
#define KD_DIM_keys 6
#define KD_DIM_vector 7
#define KD_SCALAR_temperature 0
#define KD_SCALAR_top_p 1
#define KD_SCALAR_min_p 2
#define KD_SCALAR_min_tokens_to_keep 3
#define KD_SCALAR_top_k 4
#define KD_SCALAR_xtc_probability 5
#define KD_SCALAR_xtc_threshold 6
#endif

#include "../../common/early.cu.h"
#include "settings.cu.h"
#if KD_DTYPE == 0
#include "float32.cu.h"
#else
#include "draw.cu.h"

// Floats of an exchange area, as Places takes them.
static __device__ unsigned exchange_size(unsigned count) {
  const Blocks blocks(count);
  return 9 * 32 + 2 * 34 * Tiles(count).count + blocks.count * blocks.units;
}

static __device__ Row row_of(const kd_arguments& a) {
  Row row = {};
  asm("mov.u32 %0, %%cluster_nctarank;" : "=r"(row.ranks));
  asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(row.rank));
  asm("mov.u32 %0, %%clusterid.x;" : "=r"(row.index));
  row.shift = 31 - __clz(row.ranks);
  row.count = (unsigned)a.dims[KD_DIM_V];
  row.is_kept = row.size() <= 2 * kBins;
  row.x = (const T*)a.inputs[0] + (unsigned long long)row.index * row.count;
  row.special_tokens = (const int*)a.inputs[KD_PORT_special_tokens];
  row.special = (unsigned)a.dims[KD_DIM_special];
  row.exchange = (float*)a.scratch[0] + (unsigned long long)row.index * exchange_size(row.count);
  row.weights = row.exchange + 288 + 34 * Tiles(row.count).count;
  return row;
}

// The threads that read a row.
static __device__ void readers_meet() {
  asm volatile("bar.sync 1, %0;" ::"n"(kReaders) : "memory");
}

// What blocks of a cluster tell one another of their logits: a NaN or +inf is a floor of -inf.
struct Summary {
  float floor, most, sum, unused;  // the least above -inf; the sum of exp(x - most)
};

static __device__ Online joined(Online mine) {
  const float most = most_of_warp(mine.most);
  return {most, sum_of_warp(mine.sum * exp_of(mine.most - most))};
}

// The first reading, to shared memory where there is room: what each warp finds. All readers of the block.
static __device__ void read_logits(const Row& row, Summary* of_warps) {
  constexpr unsigned kAtOnce = 4, kStep = kReaders * 8;
  if (row.rank == 0 && threadIdx.x == 0) *Places(row).counter() = 0;
  float least = infinity();
  Online mine = {kLowest, 0.0f};
  const unsigned size = row.size();
#pragma unroll 1
  for (unsigned start = threadIdx.x * 8; start < size; start += kAtOnce * kStep) {
    Eight stored[kAtOnce];
#pragma unroll
    for (unsigned n = 0; n < kAtOnce; ++n)
      if (start + n * kStep < size) stored[n] = row.load_far(row.at(start + n * kStep));
#pragma unroll
    for (unsigned n = 0; n < kAtOnce; ++n) {
      if (start + n * kStep >= size) break;
      const float most = fmaxf(mine.most, stored[n].most());
      mine.sum = mine.sum * exp_of(mine.most - most);
      mine.most = most;
#pragma unroll
      for (unsigned k = 0; k < 8; ++k) {
        const float x = widen(stored[n][k]);
        if (x > -infinity()) least = fminf(least, x);
        mine.sum = mine.sum + exp_of(x - most);
      }
      if (row.is_kept) *(uint4*)(row.room() + start + n * kStep) = stored[n].bits;
    }
  }
  __syncwarp();
  const bool is_broken = __any_sync(kAll, !(mine.sum < infinity()));
  least = -most_of_warp(-least);
  mine = joined(mine);
  if (lane_id() == 0) of_warps[warp_id()] = {is_broken ? -infinity() : least, mine.most, mine.sum, 0.0f};
}

// Of 32 lanes, of which each has one or none.
static __device__ Summary joined(const Summary* from, bool has) {
  const float least = -most_of_warp(has ? -from->floor : -infinity());
  const Online all = joined(has ? Online{from->most, from->sum} : Online{kLowest, 0.0f});
  return {least, all.most, all.sum, 0.0f};
}

// What a unit of MLX's logsumexp finds: a warp of it reads what it has one after the other.
static __device__ Online online_of_unit(const Row& row, unsigned unit) {
  Online mine = {kLowest, 0.0f};
  const unsigned first = warp_id() * 256 + lane_id() * 8, chunk = 8192 >> row.shift;
  Eight next = row.load_own(first);
#pragma unroll 1
  for (unsigned step = 0; unit * 256 + step * 8192 < row.count; ++step) {
    const Eight stored = next;
    if (unit * 256 + (step + 1) * 8192 < row.count) next = row.load_own(first + (step + 1) * chunk);
    float x[8];
#pragma unroll
    for (unsigned k = 0; k < 8; ++k) x[k] = widen(stored[k]);
    add_online(mine, x);
  }
  return mine;
}

// The same where exponentials of all steps have room: they are made by all readers at once, and added one by one.
static __device__ Online online_by_all(const Row& row) {
  const unsigned threads = 1024 >> row.shift, bits = 10 - row.shift, steps = divide_up(row.count, 8192);
  float *const mosts = (float*)memory, *const terms = mosts + threads * steps;
#pragma unroll 1
  for (unsigned i = threadIdx.x; i < threads * steps; i += kReaders) {
    const Eight x = row.load_own(i * 8);
    mosts[i] = fmaxf(kLowest, x.most());
  }
  readers_meet();
  if (threadIdx.x < threads) {
    float most = kLowest;
#pragma unroll 4
    for (unsigned i = threadIdx.x; i < threads * steps; i += threads) most = fmaxf(most, mosts[i]), mosts[i] = most;
  }
  readers_meet();
#pragma unroll 1
  for (unsigned i = threadIdx.x; i < threads * steps; i += kReaders) {
    const unsigned thread = i & (threads - 1), step = i >> bits;
    const float before = step == 0 ? kLowest : mosts[i - threads], most = mosts[i];
    const Eight x = row.load_own(i * 8);
    float* const to = terms + ((step * 9) << bits) + thread;
    to[0] = exp_of(before - most);
#pragma unroll
    for (unsigned k = 0; k < 8; ++k) to[(k + 1) << bits] = exp_of(widen(x[k]) - most);
  }
  readers_meet();
  Online mine = {kLowest, 0.0f};
  if (threadIdx.x >= threads) return mine;
  mine.most = mosts[(steps - 1) * threads + threadIdx.x];
  const float* from = terms + threadIdx.x;
  float next[9];
#pragma unroll
  for (unsigned k = 0; k < 9; ++k) next[k] = from[k << bits];
#pragma unroll 1
  for (unsigned step = 0; step < steps; ++step) {
    float now[9];
#pragma unroll
    for (unsigned k = 0; k < 9; ++k) now[k] = next[k];
    if (step + 1 < steps) from += 9 << bits;
#pragma unroll
    for (unsigned k = 0; k < 9; ++k) next[k] = from[k << bits];
    mine.sum = mine.sum * now[0];
#pragma unroll
    for (unsigned k = 1; k < 9; ++k) mine.sum = mine.sum + now[k];
  }
  return mine;
}

// logsumexp in MLX's order, before it is rounded. The whole cluster.
static __device__ __noinline__ float logsumexp_as_mlx(const Row& row) {
  const Places places(row);
  const unsigned units = threads_of_online(row.count) / 32, unit = warp_id() << row.shift | row.rank;
  const bool has = warp_id() < 32u >> row.shift && unit < units;
  const unsigned numbers = (10240 >> row.shift) * divide_up(row.count, 8192);
  const bool by_all = row.is_kept && row.ranks >= 8 && numbers + row.size() / 2 <= kBins;
  Online mine = {};
  if (by_all && threadIdx.x < kReaders)
    mine = online_by_all(row);
  else if (has)
    mine = online_of_unit(row, unit);
  if (has) {
    mine = online_of_warp(mine);
    if (lane_id() == 0) places.mosts()[unit] = mine.most, places.sums()[unit] = mine.sum;
  }
  meet();
  const Online all = online_of_units(places.mosts(), places.sums(), units);
  return logf(all.sum) + all.most;
}

// What is subtracted of logits, as it is rounded. Sums in another order give a number next to it; where both ends of
// what MLX's may be are rounded to one, it is that. False for a row that has no distribution. The whole cluster.
static __device__ bool find_logsumexp(Row& row, bool is_normalised, const Summary* of_blocks) {
  const Summary all = joined(of_blocks + lane_id(), lane_id() < row.ranks);
  row.floor = all.floor;
  if (isinf(row.floor)) return false;
  row.minus = 0.0f;
  if (!is_normalised) {
    const float sum = logf(all.sum) + all.most;
    const float off = (float)(divide_up(row.count, 8192) + 32) * 0x1p-20f + (fabsf(sum) + fabsf(all.most)) * 0x1p-21f;
    const float low = rounded(sum - off), high = rounded(sum + off);
    row.minus = low == high ? low : rounded(logsumexp_as_mlx(row));
  }
  row.minus = row.minus == 0.0f ? -0.0f : row.minus;
  row.best = rounded(all.most - row.minus) + 0.0f;
  return true;
}

// Sums of weights go to rank 0's shared memory where it has room beside the bins, else to the exchange area.
static __device__ void place_weights(Row& row, const Bins& bins) {
  const Blocks blocks(row.count);
  const unsigned needed = 34 * Tiles(row.count).count + blocks.count * blocks.units;
  const unsigned used = bins.is_near ? 2 * bins.span + 4 : bins.span;
  row.free = kBins - (row.is_kept ? row.size() / 2 : 0);
  if (used + needed > row.free) return;
  row.free -= needed;
  row.weights = there((float*)memory + row.free, 0);
}

// The largest of a row, in order: candidates are at least the last of them, and each counts those before it.
static __device__ void write_top(const kd_arguments& a, const Row& row, const Bins& bins) {
  const unsigned top = (unsigned)a.dims[KD_DIM_top];
  const unsigned bin = bins.at(top - 1);
  const float least = bin < bins.span ? bins.value(bin) : -infinity();
  unsigned* const list = (unsigned*)a.scratch[2] + 2ull * row.index * row.count;
  unsigned* const counter = Places(row).counter();
  for (unsigned from = threadIdx.x * 8; from < row.size(); from += kThreads * 8) {
    const Eight x = row.load_own(from);
#pragma unroll 1
    for (unsigned k = 0; k < 8; ++k) {
      const float y = widen(row.stored(x[k]));
      if (row.at(from) + k >= row.count || !(y >= least)) continue;
      const unsigned at = atomicAdd(counter, 1u);
      list[2 * at] = row.at(from) + k, list[2 * at + 1] = __float_as_uint(y);
    }
  }
  meet();
  const unsigned count = load(counter);
  for (unsigned i = row.rank * kThreads + threadIdx.x; i < count; i += row.ranks * kThreads) {
    const unsigned id = load(list + 2 * i);
    const float y = __uint_as_float(load(list + 2 * i + 1));
    unsigned before = 0;
    for (unsigned j = 0; j < count; ++j) {
      const float other = __uint_as_float(load(list + 2 * j + 1));
      before += other > y || (other == y && load(list + 2 * j) < id);
    }
    if (before >= top) continue;
    ((unsigned*)a.outputs[2])[row.index * top + before] = id;
    ((float*)a.outputs[3])[row.index * top + before] = y;
  }
}

static __device__ void write_broken(const kd_arguments& a, const Row& row) {
  const unsigned top = (unsigned)a.dims[KD_DIM_top];
  const float nan = __int_as_float(0x7fc00000);
  if (row.rank != 0) return;
  if (threadIdx.x == 0) ((unsigned*)a.outputs[0])[row.index] = 0, ((float*)a.outputs[1])[row.index] = nan;
  for (unsigned i = threadIdx.x; i < top; i += kThreads) {
    ((unsigned*)a.outputs[2])[row.index * top + i] = i;
    ((float*)a.outputs[3])[row.index * top + i] = nan;
  }
}

extern "C" __global__ void __launch_bounds__(1024) mlx_kd_sample_tokens(const __grid_constant__ kd_arguments a) {
  __shared__ __align__(16) float of_blocks[1024];
  __shared__ __align__(16) Summary summaries[16];
  __shared__ float one;
  __shared__ float4 steps[64];
  __shared__ unsigned of_warps[kWarps];
  __shared__ Draws shared_draws;
  __shared__ Settings settings;
  __shared__ __align__(16) unsigned char state[sizeof(Row) + sizeof(Bins) + sizeof(Shared)];  // lies here, not in registers
  come();  // once all are there, they write to one another
  wait_for_others();
  Row& row = *(Row*)state;
  Bins& bins = *(Bins*)(state + sizeof(Row));
  Shared& shared = *(Shared*)(state + sizeof(Row) + sizeof(Bins));
  Row local = row_of(a);
  if (threadIdx.x < kReaders) {
    read_logits(local, (Summary*)of_blocks);
    readers_meet();
    wait_for_all();
    if (warp_id() == 0) {
      const Summary mine = joined((const Summary*)of_blocks + lane_id(), lane_id() < kReaders / 32);
      if (lane_id() < local.ranks) *there(summaries + local.rank, lane_id()) = mine;
    }
    come();
  } else {
    wait_for_all();
    come();
    const Settings made = settings_of(a, local.index);
    const Draws draws = draws_of(a, local.index, made);
    if (lane_id() == 0) shared_draws = draws, settings = made;
  }
  wait_for_all();
  const bool has_any = find_logsumexp(local, a.dims[KD_DIM_normalised] != 0, summaries);
  if (!has_any) {
    write_broken(a, local);
    return;
  }
  if (threadIdx.x == 0) {
    bins = bins_of(local, (unsigned*)a.scratch[1] + (unsigned long long)local.index * (local.ranks + 1) * kBins);
    if (2 * bins.span + local.size() > 2 * kBins) local.is_kept = false, bins = bins_of(local, bins.parts);
    place_weights(local, bins);
    row = local;
    shared = {(float*)memory + kBins, of_blocks, of_warps, &one, steps};
  }
  __syncthreads();
  const Places places(row);
  const Draws& draws = shared_draws;
  if (a.dims[KD_DIM_top] > 0 || needs_bins(settings, row.count)) fill_bins(row, Kept(), true, bins, of_warps);
  if (a.dims[KD_DIM_top] > 0) write_top(a, row, bins);
  unsigned token;
  if (settings.inverse_temperature == 0.0f) {
    token = first_best(row, shared);
  } else {
    const float by = rounded(settings.inverse_temperature);
    const Kept kept = filtered(row, settings, draws.xtc, bins, shared);
    const unsigned rows = (unsigned)a.dims[KD_DIM_B];
    const bool is_alone = (rows == 1 && !a.dims[KD_DIM_vector]) || a.dims[KD_DIM_each_row];
    token = is_alone ? draw_alone(row, places, kept, by, draws.uniform, shared)
                     : draw_together(row, kept, by, draws.token, rows, shared);
  }
  if (row.rank == 0 && threadIdx.x == 0) {
    ((unsigned*)a.outputs[0])[row.index] = token;
    ((float*)a.outputs[1])[row.index] = row.logprob(token);
  }
}
#endif
