// clang-format off
// The k best of what a block is offered. A place is a key in the order of unsigned numbers above a row, so that no
// two are equal. Places that are less than the worst of k known ones are gathered in shared memory; where there is
// no room for a round more, they are sorted, and the k best stay.
#pragma once

typedef unsigned long long Place;
constexpr Place kNone = ~0ull;
constexpr unsigned kAll = 0xffffffffu;
constexpr unsigned kHeld = 2048;  // places in shared memory: twice the largest k
#define KD_INFINITE __int_as_float(0x7f800000)

static __device__ unsigned order_of(float key) {
  const unsigned bits = __float_as_uint(key);
  return bits ^ ((unsigned)((int)bits >> 31) | 0x80000000u);
}
static __device__ float least_of_tile(float4 of) {
  const float least = fminf(fminf(of.x, of.y), fminf(of.z, of.w));
  return least < KD_INFINITE ? least : KD_INFINITE;
}
static __device__ float key_of(Place place) {
  const unsigned order = (unsigned)(place >> 32);
  return __uint_as_float(order & 0x80000000u ? order ^ 0x80000000u : ~order);
}
// None of a key that is NaN or infinite: such rows are never found.
static __device__ Place place_of(float key, unsigned row) {
  return key < KD_INFINITE ? (Place)order_of(key) << 32 | row : kNone;
}

__shared__ Place held[kHeld];
__shared__ unsigned held_count;
__shared__ Place held_limit;

static __device__ void begin_best() {
  if (threadIdx.x == 0) held_count = 0, held_limit = kNone;
  __syncthreads();
}

static __device__ void offer(Place place) {
  if (place < held_limit) held[atomicAdd(&held_count, 1u)] = place;
}

// By all threads: the first `count` places in order; a power of 2. A warp has 64 places to itself in the steps of at
// most 32, so it waits for others only where a longer step comes before or after.
static __device__ void sort_held(unsigned count) {
  for (unsigned size = 2; size <= count; size *= 2)
    for (unsigned step = size / 2; step > 0; step /= 2) {
      for (unsigned i = threadIdx.x; i < count / 2; i += blockDim.x) {
        const unsigned low = (i & ~(step - 1)) * 2 + (i & (step - 1)), high = low + step;
        const Place a = held[low], b = held[high];
        if ((a > b) == ((low & size) == 0)) held[low] = b, held[high] = a;
      }
      if (step > 32 || (step == 1 && size >= 64))
        __syncthreads();
      else
        __syncwarp();
    }
  __syncthreads();
}

// By all threads, after what they offered: sorts, and keeps k.
static __device__ void keep_best(unsigned k) {
  __syncthreads();
  const unsigned count = held_count;
  unsigned whole = 2;
  while (whole < count) whole *= 2;
  for (unsigned i = count + threadIdx.x; i < whole; i += blockDim.x) held[i] = kNone;
  __syncthreads();
  sort_held(whole);
  if (threadIdx.x == 0) {
    held_count = min(count, k);
    if (count >= k) held_limit = held[k - 1];
  }
  __syncthreads();
}

// By all threads, before each round of at most `round` offers.
static __device__ void make_room(unsigned round, unsigned k) {
  __syncthreads();
  if (held_count > kHeld - round) keep_best(k);
}

// The least of all threads.
static __device__ float least_of(float x) {
  __shared__ float of_warps[32];
  for (int other = 16; other > 0; other /= 2) x = fminf(x, __shfl_xor_sync(kAll, x, other));
  if (threadIdx.x % 32 == 0) of_warps[threadIdx.x / 32] = x;
  __syncthreads();
  x = threadIdx.x % 32 < blockDim.x / 32 ? of_warps[threadIdx.x % 32] : KD_INFINITE;
  for (int other = 16; other > 0; other /= 2) x = fminf(x, __shfl_xor_sync(kAll, x, other));
  return x;
}

// Bounds are found to all but the last bits of their order.
constexpr int kLeftOut = 12;

static __device__ float from_above(unsigned order) {
  const float found = key_of((Place)(order | ((1u << kLeftOut) - 1)) << 32);
  return found < KD_INFINITE ? found : KD_INFINITE;
}

// By all threads: a bound of the k-th least of `count` keys, from above and within 2^-11 of it; infinite where fewer
// are finite.
template <class KeyAt>
static __device__ float bound_of_least(unsigned count, unsigned k, KeyAt key_at) {
  const auto order_at = [&](unsigned i) {
    const float key = i < count ? key_at(i) : KD_INFINITE;
    return order_of(key < KD_INFINITE ? key : KD_INFINITE);
  };
  if (k == 1) {
    float least = KD_INFINITE;
    for (unsigned i = threadIdx.x; i < count; i += blockDim.x) least = fminf(least, key_at(i));
    return least_of(least);
  }
  const unsigned mine[2] = {order_at(threadIdx.x), order_at(threadIdx.x + blockDim.x)};
  unsigned bound = 0;
  for (unsigned bit = 1u << 31; bit >> kLeftOut; bit /= 2) {
    const unsigned next = bound + bit;
    unsigned below = __syncthreads_count(mine[0] < next);
    if (count > blockDim.x) below += __syncthreads_count(mine[1] < next);
    for (unsigned first = 2 * blockDim.x; first < count; first += blockDim.x)
      below += __syncthreads_count(order_at(first + threadIdx.x) < next);
    if (below < k) bound = next;
  }
  return from_above(bound);
}
