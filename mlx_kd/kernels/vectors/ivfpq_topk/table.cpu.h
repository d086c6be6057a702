// What each code of a vector adds to its key, and vectors whose codes are looked up in that.
#ifndef TOGETHER
#define TOGETHER 8  // vectors whose codes are looked up together
#endif
#pragma once
#include "../probes.cpu.h"

constexpr long kCodes = 256;
constexpr long kMostParts = 128;  // S at most
constexpr long kAtOnce = 4;       // vectors of codes whose parts are read together

struct Codes {
  const unsigned char* at;
  const float* books;
  long rows, count, width;  // vectors; codes of a vector; columns of a part

  const unsigned char* row(long i) const { return at + i * count; }
};

struct Table {
  float at[kMostParts * kCodes] __attribute__((aligned(64)));
  float least[kMostParts];  // of a part; NaN is passed over
  float largest;            // magnitude of all
  float base;               // added to every key
};

KD_INLINE float least_of(Floats x) {
  float least = x[0];
  for (long i = 1; i < kLanes; ++i) least = x[i] < least ? x[i] : least;
  return least;
}

// |r - part|^2 of the rest r, or -q.part.
template <bool kInner>
static void make_table(const Codes& codes, const float* x, float base, Table& table) {
  Floats largest = {};
  for (long s = 0; s < codes.count; ++s) {
    Floats least = Floats{} + kInfinity;
    for (long c = 0; c < kCodes; c += kAtOnce * kLanes) {
      const float* const book = codes.books + s * codes.width * kCodes + c;
      Floats sums[kAtOnce] = {};
      for (long j = 0; j < codes.width; ++j) {
        const Floats own = Floats{} + x[s * codes.width + j];
        KD_UNROLL
        for (long i = 0; i < kAtOnce; ++i)
          sums[i] = more<kInner>(sums[i], own, load(book + j * kCodes + i * kLanes).part[0]);
      }
      KD_UNROLL
      for (long i = 0; i < kAtOnce; ++i) {
        if (kInner) sums[i] = -sums[i];
        const Floats opposite = -sums[i];
        least = sums[i] < least ? sums[i] : least;
        largest = sums[i] > largest ? sums[i] : largest;
        if (kInner) largest = opposite > largest ? opposite : largest;
      }
      __builtin_memcpy(table.at + s * kCodes + c, sums, sizeof sums);
    }
    table.least[s] = least_of(least);
  }
  table.largest = -least_of(-largest);
  table.base = base;
}

// Vectors [from, to) of a list.
static void scan_codes(const Codes& codes, const Table& table, long from, long to,
                       const PairHeap& heap) {
  for (long i = from; i < to; i += TOGETHER) {
    const long count = to - i < TOGETHER ? to - i : TOGETHER;
    const unsigned char* code[TOGETHER];
    float sums[TOGETHER];
    KD_UNROLL
    for (long v = 0; v < TOGETHER; ++v)
      code[v] = codes.row(i + (v < count ? v : 0)), sums[v] = table.base;
    for (long s = 0; s < codes.count; ++s) {
      KD_UNROLL
      for (long v = 0; v < TOGETHER; ++v) sums[v] += table.at[s * kCodes + code[v][s]];
    }
    for (long v = 0; v < count; ++v) heap.offer(sums[v], i + v);
  }
}
