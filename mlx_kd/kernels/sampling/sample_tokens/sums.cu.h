// clang-format off
// Sums of floats in the orders in which MLX's CUDA back end adds them, so that they have its bits: logsumexp and
// softmax, cumsum along a contiguous axis, and sum of a whole array.
//
// MLX's kernels are of one block each (logsumexp, cumsum) or few; what their threads do is done here by threads of a
// whole cluster. A `unit` is what a warp of theirs does. What units leave for one another lies in an exchange
// area of the row in global memory, between two meetings of the cluster.
//
// Each phase of the kernel runs once, so what its code costs to fetch counts: what is rarely needed, or called at
// several places, is not inlined, and is given values: what an address is taken of would lie in local memory.
#pragma once
#include "../../common/numbers.cu.h"

constexpr unsigned kThreads = 1024, kWarps = kThreads / 32, kAll = 0xffffffffu;
constexpr unsigned kReaders = kThreads - 32;  // the threads that read a row; the last warp makes keys meanwhile
constexpr float kLowest = -3.402823466e38f;

static __device__ float infinity() {
  return __int_as_float(0x7f800000);
}

static __device__ unsigned divide_up(unsigned a, unsigned b) {
  return (a + b - 1) / b;
}

static __device__ unsigned lane_id() {
  return threadIdx.x % 32;
}

static __device__ unsigned warp_id() {
  return threadIdx.x / 32;
}

// All threads of the cluster; what they wrote before is read after it, with load().
static __device__ void meet() {
  asm volatile("barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;" ::: "memory");
}

// A meeting in two parts: what is between them may be done before others come.
static __device__ void come() {
  asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
}

static __device__ void wait_for_all() {
  asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
}

// Where another block of the cluster has what this one has at `here` in shared memory.
template <class Number>
static __device__ Number* there(Number* here, unsigned rank) {
  unsigned long long place;
  asm("mapa.u64 %0, %1, %2;" : "=l"(place) : "l"(here), "r"(rank));
  return (Number*)place;
}

// From global memory or the shared memory of a block.
template <class Number>
static __device__ Number load(const Number* from) {
  unsigned bits;
  asm volatile("ld.relaxed.gpu.u32 %0, [%1];" : "=r"(bits) : "l"(from) : "memory");
  return *(const Number*)&bits;
}

static __device__ float sum_of_warp(float x) {
  for (int other = 16; other > 0; other /= 2) x = x + __shfl_xor_sync(kAll, x, other);
  return x;
}

static __device__ float most_of_warp(float x) {
  for (int other = 16; other > 0; other /= 2) x = fmaxf(x, __shfl_xor_sync(kAll, x, other));
  return x;
}

static __device__ unsigned count_of_warp(unsigned x) {
  return __reduce_add_sync(kAll, x);
}

// The sum over the lanes before this one.
static __device__ float sum_before(float x) {
  for (unsigned by = 1; by < 32; by *= 2) {
    const float other = __shfl_up_sync(kAll, x, by);
    if (by <= lane_id()) x = x + other;
  }
  const float before = __shfl_up_sync(kAll, x, 1);
  return lane_id() == 0 ? 0.0f : before;
}

// --- logsumexp and softmax ---

// __expf, but that it is 0 where that is subnormal: next to the 1 of the largest no such term changes a sum.
static __device__ float exp_of(float x) {
  float power;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(x * 0x1.715476p+0f));
  return power;
}

struct Online {
  float most, sum;  // the sum of exp(x - most)
};

// Threads of MLX's block for a row of `count`: 8 elements each at a time.
static __device__ unsigned threads_of_online(unsigned count) {
  unsigned threads = 32;
  while (threads < divide_up(count, 8) && threads < 1024) threads *= 2;
  return threads;
}

// Adds 8 more.
static __device__ void add_online(Online& all, const float (&x)[8]) {
  const float before = all.most;
  const float most = fmaxf(fmaxf(fmaxf(x[0], x[1]), fmaxf(x[2], x[3])), fmaxf(fmaxf(x[4], x[5]), fmaxf(x[6], x[7])));
  all.most = fmaxf(before, most);
  all.sum = all.sum * exp_of(before - all.most);
#pragma unroll
  for (int i = 0; i < 8; ++i) all.sum = all.sum + exp_of(x[i] - all.most);
}

static __device__ Online online_of_warp(Online mine) {
  const float before = mine.most;
  mine.most = most_of_warp(mine.most);
  mine.sum = mine.sum * __expf(before - mine.most);
  mine.sum = sum_of_warp(mine.sum);
  return mine;
}

// Of all units' results, which lie at `mosts` and `sums`; every warp may ask.
static __device__ Online online_of_units(const float* mosts, const float* sums, unsigned units) {
  const bool has = lane_id() < units;
  const float before = has ? load(mosts + lane_id()) : kLowest;
  Online all;
  all.most = most_of_warp(before);
  all.sum = sum_of_warp(has ? __fmul_rn(load(sums + lane_id()), __expf(before - all.most)) : 0.0f);
  return all;
}

// --- cumsum ---

// MLX's block scans tiles, one after the other; a thread has 4 elements of each.
struct Tiles {
  unsigned count, length, units;  // tiles, elements of one, and its warps

  __device__ explicit Tiles(unsigned elements) {
    units = min((elements + 127) / 128, 32u);
    length = units * 128;
    count = units < 32 ? 1 : (elements + 4095) / 4096;
  }

  // Of the i-th element or unit.
  __device__ unsigned tile_of(unsigned i) const { return count == 1 ? 0 : i / 4096; }
  __device__ unsigned in_tile(unsigned i) const { return count == 1 ? i : i % 4096; }
  __device__ unsigned tile_of_unit(unsigned unit) const { return count == 1 ? 0 : unit / 32; }
  __device__ unsigned unit_in_tile(unsigned unit) const { return count == 1 ? unit : unit % 32; }
};

// What the cluster knows of the sums of a row: in the exchange area.
struct Scan {
  float* sums;  // (tiles, 32): of units
  float* last;  // (tiles, 2): in the last thread, of its 4 elements and of the threads before it in its unit
};

// What a thread has of a unit.
struct Scanned {
  float sums[4];  // within the thread
  float before;   // of the threads before it
};

// Of 4 consecutive terms of each thread.
static __device__ Scanned scan_unit(const float (&terms)[4]) {
  Scanned made;
  made.sums[0] = terms[0];
#pragma unroll
  for (int i = 1; i < 4; ++i) made.sums[i] = terms[i] + made.sums[i - 1];
  made.before = sum_before(made.sums[3]);
  return made;
}

// Of two units of which each thread has 8 consecutive terms: in lane 15 for the first and in lane 31 for the second
// what the cluster has to know.
struct Ends {
  float last, before;  // of the last thread of MLX's unit: its 4 terms, and the threads before it
};

static __device__ Ends ends_of_units(const float (&terms)[8]) {
  float even = terms[0], odd = terms[4];
#pragma unroll
  for (int i = 1; i < 4; ++i) even = terms[i] + even, odd = terms[4 + i] + odd;
  const float last = odd;
  const unsigned lane = lane_id() % 16;
  const float other = __shfl_up_sync(kAll, odd, 1, 16);
  odd = odd + even;
  if (lane >= 1) even = even + other;
#pragma unroll
  for (unsigned by = 1; by < 16; by *= 2) {
    const float of_even = __shfl_up_sync(kAll, even, by, 16), of_odd = __shfl_up_sync(kAll, odd, by, 16);
    if (by <= lane) even = even + of_even, odd = odd + of_odd;
  }
  return {last, even};
}

// Of a unit all of whose terms are `term`.
static __device__ Ends ends_of_equals(float term) {
  const float last = term + (term + (term + term));
  float before = 2.0f * last + last;
  before = 4.0f * last + before;
  before = 8.0f * last + before;
  before = 16.0f * last + before;
  return {last, before};
}

static __device__ void write_ends(const Tiles& tiles, const Scan& to, unsigned tile, unsigned unit, const Ends& ends) {
  to.sums[tile * 32 + unit] = ends.before + ends.last;
  if (unit == tiles.units - 1) to.last[2 * tile] = ends.last, to.last[2 * tile + 1] = ends.before;
}

// To prefix (tiles + 1), in shared memory: the sum before each tile. `steps` (64) are what tiles add. `one` gets the
// sum of the units before a unit of a tile, of those before that in the tile.
static __device__ __noinline__ void sum_tiles(Tiles tiles, Scan scan, float* prefix, float4* steps, unsigned tile_of_one,
                                              unsigned unit_of_one, float* one) {
  float sum = 0.0f;
#pragma unroll 1
  for (unsigned from = 0; from < tiles.count; from += 2 * kWarps) {
    float of_units[2], last[2];
#pragma unroll
    for (unsigned n = 0; n < 2; ++n) {
      const unsigned tile = from + n * kWarps + warp_id();
      const bool has = tile < tiles.count;
      of_units[n] = has && lane_id() < tiles.units ? load(scan.sums + tile * 32 + lane_id()) : 0.0f;
      last[n] = has && lane_id() < 2 ? load(scan.last + 2 * tile + lane_id()) : 0.0f;
    }
#pragma unroll
    for (unsigned n = 0; n < 2; ++n) {
      const unsigned tile = from + n * kWarps + warp_id();
      const float before = sum_before(of_units[n]);
      float4& step = steps[n * kWarps + warp_id()];
      if (lane_id() == 0) step.x = last[n];
      if (lane_id() == 1) step.z = last[n];
      if (lane_id() == tiles.units - 1) step.y = before;
      if (tile == tile_of_one && lane_id() == unit_of_one) *one = before;
    }
    __syncthreads();
    if (warp_id() == 0) {
      if (from == 0 && lane_id() == 0) prefix[0] = 0.0f;
      const unsigned end = min(2 * kWarps, tiles.count - from);
#pragma unroll 1
      for (unsigned i = 0; i < end; i += 8) {
        float4 eight[8];
#pragma unroll
        for (unsigned k = 0; k < 8; ++k) eight[k] = steps[i + k];  // all before the first is needed
        float mine = 0.0f;  // of a lane its own of the eight
#pragma unroll
        for (unsigned k = 0; k < 8; ++k) {
          sum = ((eight[k].x + sum) + eight[k].y) + eight[k].z;
          if (lane_id() == k) mine = sum;
        }
        if (lane_id() < 8 && i + lane_id() < end) prefix[from + i + lane_id() + 1] = mine;
      }
    }
    __syncthreads();
  }
}

// The inclusive sums at 4 positions of this thread (unit warp_id() of the tile) from its terms, and the sums of the
// tile's units, of each lane's; only where the tile has that unit.
static __device__ __noinline__ float4 sums_in_tile(float before_tile, float of_units, float4 given) {
  const float terms[4] = {given.x, given.y, given.z, given.w};
  const Scanned made = scan_unit(terms);
  const float before_unit = __shfl_sync(kAll, sum_before(of_units), warp_id());
  return {((made.sums[0] + before_tile) + before_unit) + made.before, ((made.sums[1] + before_tile) + before_unit) + made.before,
          ((made.sums[2] + before_tile) + before_unit) + made.before, ((made.sums[3] + before_tile) + before_unit) + made.before};
}

// What sums_in_tile takes of units.
static __device__ float units_of_tile(const Tiles& tiles, const Scan& scan, unsigned tile) {
  return lane_id() < tiles.units ? load(scan.sums + tile * 32 + lane_id()) : 0.0f;
}

static __device__ float element(const float4& four, unsigned i) {
  return i == 0 ? four.x : i == 1 ? four.y : i == 2 ? four.z : four.w;
}

// --- the sum of an array ---

// MLX's blocks: each thread adds 8 elements of each step.
struct Blocks {
  unsigned count, units, steps;  // blocks, the warps of one, and its steps

  __device__ explicit Blocks(unsigned elements) {
    units = divide_up(min(512u, divide_up(elements, 8)), 32);
    const unsigned needed = units < 16 ? 1 : divide_up(elements, 4096);
    const unsigned shift = needed < 32 ? 0 : needed < 128 ? 5 : needed < 512 ? 7 : needed < 1024 ? 9 : 10;
    count = 1u << shift;
    steps = (needed + count - 1) >> shift;
  }
};

// Of the units at `from`; `of_blocks` (blocks) in shared memory. All threads of the block get it.
static __device__ float sum_of_units(const Blocks& blocks, const float* from, float* of_blocks) {
#pragma unroll 1
  for (unsigned block = warp_id(); block < blocks.count; block += kWarps) {
    const float one = lane_id() < blocks.units ? load(from + block * blocks.units + lane_id()) : 0.0f;
    const float sum = blocks.units == 1 ? __shfl_sync(kAll, one, 0) : sum_of_warp(one);
    if (lane_id() == 0) of_blocks[block] = sum;
  }
  __syncthreads();
  if (blocks.count == 1) return of_blocks[0];
  const Blocks second(blocks.count);
  float of_unit = 0.0f;
#pragma unroll 1
  for (unsigned unit = 0; unit < second.units; ++unit) {
    float sum = 0.0f;
    for (unsigned i = 0; i < 8; ++i) {
      const unsigned at = (unit * 32 + lane_id()) * 8 + i;
      sum = sum + (at < blocks.count ? of_blocks[at] : 0.0f);
    }
    sum = sum_of_warp(sum);
    if (lane_id() == unit) of_unit = sum;
  }
  return second.units == 1 ? __shfl_sync(kAll, of_unit, 0) : sum_of_warp(of_unit);
}
