// The threshold of top_p: MLX adds the probabilities in descending order, one by one in float32,
// and keeps what is at least the log probability at which the sum passes top_p of the whole.
//
// Log probabilities are counted in bins of their bits, from the largest down. Of a 16-bit type a
// bin is one value: its additions are made at once (serial_sum_of_equals). Of float32 bins hold
// several values, which are brought into the order of bins; within one block the order matters only
// where the sum leaves its binade or a value lies between two units, and there it is sorted.
//
// Threads share a row in parts: each counts its part in copies of the bins of its own, which then
// say where its values go. The order within a bin does not matter.
#pragma once
#include "row.cpu.h"
constexpr int kShift = KD_DTYPE == 0 ? 11 : KD_DTYPE == 1 ? 13 : 16;  // bits that bins ignore
// float16 is moved to the exponents of float that have its bits, subnormal ones included.
constexpr float kToBits = KD_DTYPE == 1 ? 0x1p-112f : 1.0f, kFromBits = 1 / kToBits;
constexpr float kLeast = -88.0f;  // of which the exponential is not 0

// Ascending as x descends.
KD_INLINE unsigned descent_of(float x) {
  const unsigned bits = bits_of(x * kToBits);
  return bits >> 31 ? bits : 0x7fffffffu - bits;
}

constexpr long kCopies = 4;

struct Bins {
  unsigned first;  // descent of the largest, shifted
  long count;      // the last is for what has an exponential of 0
  int shift;
  long apart;  // of the kCopies counts of a bin; 0: there is one

  // Of a 16-bit type: the value that a bin counts.
  float value(long bin) const {
    const unsigned sign = 1u << (31 - shift), descent = unsigned(bin) + first;
    return float_of((descent & sign ? descent : sign - 1 - descent) << shift) * kFromBits;
  }
};

static Bins bins_of(const Row& row) {
  Bins bins = {0, 0, kShift, 0};
  for (;; ++bins.shift) {
    bins.first = descent_of(row.best) >> bins.shift;
    bins.count = long(descent_of(kLeast) >> bins.shift) - long(bins.first) + 2;
    if (bins.count < 2) bins.count = 2;
    if (KD_DTYPE != 0 || kCopies * bins.count <= kTable) break;
  }
  bins.apart = kCopies * bins.count <= kTable ? bins.count : 0;
  return bins;
}

KD_INLINE void bins_of_chunk(const Bins& bins, const float* logprobs, unsigned* to) {
  const unsigned last = unsigned(bins.count) - 1;
  for (long i = 0; i < kChunk; ++i) {
    const unsigned bin = (descent_of(logprobs[i]) >> bins.shift) - bins.first;
    to[i] = logprobs[i] < kLeast || bin > last ? last : bin;
  }
}

// A part of a row, and the copies of the bins that are its own: a power of 2 of them, so that equal
// neighbours do not wait for one another. Where there is one count, the first part has the row.
struct Share {
  long from, to;
  unsigned* counts;
  long copies;
};

KD_INLINE Share share_of(const Row& row, const Bins& bins, long part, long parts) {
  if (bins.apart == 0) return {0, part == 0 ? row.count : 0, row.table, part == 0 ? 1 : 0};
  const long chunks = (row.count + kChunk - 1) / kChunk, each = (chunks + parts - 1) / parts;
  const long from = part * each * kChunk, to = from + each * kChunk;
  const long copies = kCopies / parts;
  return {from, to < row.count ? to : row.count, row.table + part * copies * bins.apart, copies};
}

// Counts of a part's log probabilities, in its copies.
static void count_part(const Row& row, const Bins& bins, const Share& share) {
  unsigned* const counts = share.counts;
  const long all = share.copies * bins.count, apart = bins.apart, turn = share.copies - 1;
  for (long i = 0; i < all; ++i) counts[i] = 0;
  for (long from = share.from; from < share.to; from += kChunk) {
    float logprobs[kChunk];
    unsigned at[kChunk];
    logprobs_of(row, from, logprobs);
    bins_of_chunk(bins, logprobs, at);
    for (long i = 0; i < kChunk; i += 4)
      for (long k = 0; k < 4; ++k) ++counts[(k & turn) * apart + at[i + k]];
  }
}

#if KD_DTYPE != 0

// `about`: how many are at least the threshold, or some more.
static float threshold_of(const Row& row, float top_p, long& about) {
  const Bins bins = bins_of(row);
  for (long i = 0; i < bins.count && bins.apart; ++i)
    for (long k = 1; k < kCopies; ++k) row.table[i] += row.table[k * bins.apart + i];
  float* const before = row.p;  // the sum before each bin
  float s = 0;
  for (long i = 0; i + 1 < bins.count; ++i) {
    before[i] = s;
    if (row.table[i] != 0) s = serial_sum_of_equals(s, exp_as_mlx(bins.value(i)), row.table[i]);
  }
  const float enough = top_p * s;
  long at = bins.count - 2;
  while (at > 0 && (row.table[at] == 0 || !(before[at] < enough))) --at;
  about = 0;
  for (long i = 0; i <= at; ++i) about += row.table[i];
  return bins.value(at);
}

#else

static bool is_larger(const float& a, const float& b) {
  return a > b;
}

// Log probabilities in the order of their bins, and their exponentials. Neighbouring bins make a
// group, which is sorted once its order matters.
struct Ordered {
  float *logprobs, *p;
  long count, groups;
  unsigned* starts;  // of groups, and the count
  float* before;     // the sum before each group

  void sort(long group) const {
    const long from = starts[group], size = starts[group + 1] - from;
    float least = logprobs[from], most = least;
    for (long i = from; i < from + size; ++i) {
      least = logprobs[i] < least ? logprobs[i] : least;
      most = logprobs[i] > most ? logprobs[i] : most;
    }
    if (least == most) return;
    sort_all<float, is_larger>(logprobs + from, size);
    for (long i = from; i < from + size; ++i) p[i] = exp_as_mlx(logprobs[i]);
  }
};

// Counts of both are kept behind the table.
static Ordered ordered_of(const Row& row) {
  Ordered all = {};
  all.logprobs = (float*)row.list;
  all.p = row.p;
  all.starts = row.list + row.count;
  all.before = (float*)(all.starts + row.count / kBlockOfSum + 2);
  all.count = row.table[kOrdered], all.groups = row.table[kOrdered + 1];
  return all;
}

// Groups of bins, from their counts; the counts become the places of the first of each copy.
static void place_bins(const Row& row, const Bins& bins) {
  Ordered all = ordered_of(row);
  all.count = all.groups = 0;
  for (long i = 0; i + 1 < bins.count; ++i) {
    unsigned* const counts[kCopies] = {row.table + i, row.table + bins.apart + i,
                                       row.table + 2 * bins.apart + i,
                                       row.table + 3 * bins.apart + i};
    if ((*counts[0] | *counts[1] | *counts[2] | *counts[3]) == 0) continue;
    if (all.groups == 0 || all.count - all.starts[all.groups - 1] >= kBlockOfSum)
      all.starts[all.groups++] = unsigned(all.count);
    for (unsigned* const count : counts) {
      const unsigned size = *count;
      *count = unsigned(all.count), all.count += size;
    }
  }
  all.starts[all.groups] = unsigned(all.count);
  row.table[kOrdered] = unsigned(all.count), row.table[kOrdered + 1] = unsigned(all.groups);
}

// A part's log probabilities to their places.
static void order_part(const Row& row, const Bins& bins, const Share& share) {
  float* const logprobs = ordered_of(row).logprobs;
  unsigned* const places = share.counts;
  const long apart = bins.apart, turn = share.copies - 1;
  const unsigned last = unsigned(bins.count) - 1;
  for (long first = share.from; first < share.to; first += kChunk) {
    float some[kChunk];
    unsigned at[kChunk];
    logprobs_of(row, first, some);
    bins_of_chunk(bins, some, at);
    for (long i = 0; i < kChunk; i += 4)
      for (long k = 0; k < 4; ++k)
        if (at[i + k] != last) logprobs[places[(k & turn) * apart + at[i + k]]++] = some[i + k];
  }
}

// Exponentials of a part of what is in order.
static void powers_of_part(const Row& row, long part, long parts) {
  const Ordered all = ordered_of(row);
  const long each = (all.count + parts - 1) / parts, from = part * each;
  const long to = from + each < all.count ? from + each : all.count;
  for (long i = from; i < to; ++i) all.p[i] = exp_as_mlx(all.logprobs[i]);
}

// Whether all terms of a group are added as integers, which do not depend on their order.
static bool add_unordered(float& s, const float* p, long count) {
  float sum = s;
  for (long at = 0; at < count; at += kBlockOfSum)
    if (!add_as_integers(sum, p + at, count - at < kBlockOfSum ? count - at : kBlockOfSum))
      return false;
  s = sum;
  return true;
}

static float threshold_of(const Row& row, float top_p, long& about) {
  const Ordered all = ordered_of(row);
  float s = 0;
  for (long group = 0; group < all.groups; ++group) {
    all.before[group] = s;
    const long from = all.starts[group], size = all.starts[group + 1] - from;
    if (add_unordered(s, all.p + from, size)) continue;
    all.sort(group);
    s = serial_sum(s, all.p + from, size);
  }
  const float enough = top_p * s;
  long group = all.groups - 1;
  while (group > 0 && !(all.before[group] < enough)) --group;
  all.sort(group);
  about = all.starts[group + 1];
  s = all.before[group];
  long last = all.starts[group];
  for (long i = last; i < all.starts[group + 1] && s < enough; ++i) last = i, s += all.p[i];
  return all.logprobs[last];
}

#endif
