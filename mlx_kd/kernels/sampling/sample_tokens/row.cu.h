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

static __device__ T stored_of(T logit, float minus) {
  return narrow(widen(logit) - minus);
}

// A row, the part of it that a block of the cluster has, and the exchange area. Blocks take turns with units of 256
// logits, so that what a unit of a sum adds lies within one of them; they keep theirs in shared memory where there
// is room.
struct Row;
static __device__ unsigned kept_of_any(const Row& row, Kept left, Eight logits, unsigned first);

struct Row {
  const T* x;
  bool is_kept;                                // in shared memory
  unsigned count, index, rank, ranks, shift;  // 2^shift ranks
  float minus, best;                           // logsumexp, -0 for 0, so that no difference is -0; the largest log probability
  float floor;                                 // the least logit above -inf
  const int* special_tokens;
  unsigned special;
  float* exchange;
  float* weights;   // sums of weights (Places): of rank 0 in its shared memory, where it has room for them
  unsigned free;    // words of shared memory for bins

  // Log probabilities as they are stored.
  __device__ T stored(T logit) const { return stored_of(logit, minus); }
  __device__ float logprob(unsigned i) const { return widen(stored(x[i])); }

  // The first log probabilities of eight from `first` on: a bit for each that is left.
  template <unsigned count = 8>
  __device__ unsigned kept_of(const Kept& left, const Eight& logits, unsigned first) const {
    if (!left.is_simple) return kept_of_any(*this, left, logits, first);
    unsigned bits = 0;
#pragma unroll
    for (unsigned k = 0; k < count; ++k) bits |= (widen(stored(logits[k])) >= left.least ? 1u : 0u) << k;
    return bits;
  }
  __device__ bool keeps(const Kept& left, float y, unsigned i) const {
    return left.is_simple ? y >= left.least : y >= fmaxf(left.least, left.kth) && is_left(left, special_tokens, special, count, y, i);
  }

  // How many logits its units have, to whole 8192 of the row; and the index of the i-th of them.
  __device__ unsigned size() const { return divide_up(count, 8192) << (13 - shift); }
  __device__ unsigned at(unsigned i) const { return ((i >> 8) << shift | rank) << 8 | (i & 255); }
  __device__ T* room() const { return (T*)(memory + kBins) - size(); }
  __device__ bool has(unsigned i) const { return ((i >> 8) & (ranks - 1)) == rank; }
  __device__ unsigned local(unsigned i) const { return (i >> 8) >> shift << 8 | (i & 255); }

  // 8 logits from i on, a multiple of 8; -inf past the end.
  __device__ Eight load_far(unsigned i) const {
    if ((unsigned long long)x % 16 == 0 && i + 8 <= count) return {*(const uint4*)(x + i)};
    return load_one_by_one(x, count, i);
  }
  __device__ Eight load_eight(unsigned i) const {
    if (is_kept && has(i) && i < count) return {*(const uint4*)(room() + local(i))};
    return load_far(i);
  }
  // The same of its own, from the i-th on.
  __device__ Eight load_own(unsigned i) const {
    return is_kept ? Eight{*(const uint4*)(room() + i)} : load_far(at(i));
  }
};

static __device__ __noinline__ unsigned kept_of_any(const Row& row, Kept left, Eight logits, unsigned first) {
  unsigned bits = 0;
#pragma unroll 1
  for (unsigned k = 0; k < 8; ++k)
    if (row.keeps(left, widen(row.stored(logits[k])), first + k)) bits |= 1u << k;
  return bits;
}

// The exchange area of a row, in floats. cuda_variant.cpp knows its size.
struct Places {
  float *base, *of_weights;
  unsigned tiles;

  __device__ explicit Places(const Row& row) : base(row.exchange), of_weights(row.weights), tiles(Tiles(row.count).count) {}

  // Of units, 32 each.
  __device__ float* mosts() const { return base; }
  __device__ float* sums() const { return base + 32; }
  __device__ float* softmax_mosts() const { return base + 64; }
  __device__ float* softmax_sums() const { return base + 96; }
  // Of blocks of the cluster, 32 each.
  __device__ float* best() const { return base + 160; }
  __device__ unsigned* best_ids() const { return (unsigned*)base + 192; }
  __device__ unsigned* ties() const { return (unsigned*)base + 224; }
  // Numbers of the row, 32.
  __device__ float* others() const { return base + 256; }
  __device__ unsigned* counter() const { return (unsigned*)base + 287; }
  __device__ Scan masses() const { return {base + 288, base + 288 + 32 * tiles}; }
  __device__ Scan weights() const { return {of_weights, of_weights + 32 * tiles}; }
  __device__ float* of_units() const { return of_weights + 34 * tiles; }  // the sum of weights
};
