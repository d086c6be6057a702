// clang-format off
// A row of logits, and the memory in which the blocks of a cluster share what they find.
#pragma once
#include "settings.cu.h"

// Bins (bins.cu.h) from the start on, a block's logits up to kBins, the sums before tiles from there on.
extern __shared__ __align__(16) unsigned memory[];
constexpr unsigned kFinite = KD_DTYPE == 1 ? 0x7bff : 0x7f7f;       // the bits of the largest number
constexpr unsigned kBitsOfFaint = KD_DTYPE == 1 ? 0x56e0 : 0x42dc;  // of 110
constexpr unsigned kBins = (kFinite + kBitsOfFaint + 5) / 4 * 4;

struct Eight {
  uint4 bits;

  __device__ T operator[](unsigned i) const {
    const unsigned pair = i < 2 ? bits.x : i < 4 ? bits.y : i < 6 ? bits.z : bits.w;
    return (T)(i % 2 == 0 ? pair : pair >> 16);
  }
  // The largest, but for NaN.
  __device__ float most() const {
    const unsigned pair = larger(larger(bits.x, bits.y), larger(bits.z, bits.w));
    return fmaxf(widen((T)pair), widen((T)(pair >> 16)));
  }
  static __device__ unsigned larger(unsigned a, unsigned b) {
    unsigned pair;
#if KD_DTYPE == 1
    asm("max.f16x2 %0, %1, %2;" : "=r"(pair) : "r"(a), "r"(b));
#else
    asm("max.bf16x2 %0, %1, %2;" : "=r"(pair) : "r"(a), "r"(b));
#endif
    return pair;
  }
};

// 8 logits, as many as there are; -inf past the end.
static __device__ __noinline__ Eight load_one_by_one(const T* x, unsigned count, unsigned i) {
  const auto one = [&](unsigned at) -> unsigned { return at < count ? x[at] : narrow(-infinity()); };
  const auto pair = [&](unsigned at) { return one(at) | one(at + 1) << 16; };
  return {{pair(i), pair(i + 2), pair(i + 4), pair(i + 6)}};
}

// A row, the part of it that a block of the cluster has, and the exchange area. Blocks take turns with chunks of
// 8192 / ranks logits, so that what a unit of a sum needs lies within one of them; they keep theirs in shared memory
// where there is room.
struct Row {
  const T* x;
  bool is_kept;  // in shared memory
  unsigned count, index, rank, ranks, bits;  // a chunk has 2^bits logits
  float minus, best;                         // logsumexp; the largest log probability
  float floor;                               // the least logit above -inf
  const int* special_tokens;
  unsigned special;
  float* exchange;

  // Log probabilities as they are stored; -0 is 0.
  __device__ T stored(T logit) const {
    const T y = narrow(widen(logit) - minus);
    return y == T(0x8000) ? T(0) : y;
  }
  __device__ float logprob(unsigned i) const { return widen(stored(x[i])); }

  __device__ bool keeps(const Kept& left, float y, unsigned i) const {
    return left.is_simple ? y >= left.least : y >= fmaxf(left.least, left.kth) && is_left(left, special_tokens, special, count, y, i);
  }

  // How many logits its chunks have, whole ones counted; and the index of the i-th of them.
  __device__ unsigned size() const { return divide_up(count, 8192) << bits; }
  __device__ unsigned at(unsigned i) const { return (i >> bits) << 13 | rank << bits | (i & ((1u << bits) - 1)); }
  __device__ T* room() const { return (T*)(memory + kBins) - size(); }
  __device__ bool has(unsigned i) const { return ((i >> bits) & (ranks - 1)) == rank; }
  __device__ unsigned local(unsigned i) const { return (i >> 13) << bits | (i & ((1u << bits) - 1)); }

  // 8 logits from i on, a multiple of 8; -inf past the end.
  __device__ Eight load_eight(unsigned i) const {
    if (is_kept && has(i) && i < count) return {*(const uint4*)(room() + local(i))};
    if ((unsigned long long)x % 16 == 0 && i + 8 <= count) return {*(const uint4*)(x + i)};
    return load_one_by_one(x, count, i);
  }
};

// The exchange area of a row, in floats. op.cpp knows its size.
struct Places {
  float *mosts, *sums, *softmax_mosts, *softmax_sums;  // (32) each: of units
  float *floors, *broken, *best, *best_ids, *ties;     // (32) each: of blocks of the cluster
  float* others;                                       // (32): numbers of the row
  Scan masses, weights;
  float* of_units;  // the sum of weights

  __device__ Places(const Row& row) {
    const Tiles tiles(row.count);
    float* at = row.exchange;
    const auto take = [&](unsigned size) {
      float* const from = at;
      at += size;
      return from;
    };
    mosts = take(32), sums = take(32), softmax_mosts = take(32), softmax_sums = take(32);
    floors = take(32), broken = take(32), best = take(32), best_ids = take(32), ties = take(32), others = take(32);
    masses = {take(tiles.count * 32), take(tiles.count * 2)};
    weights = {take(tiles.count * 32), take(tiles.count * 2)};
    of_units = at;
  }
};
