// A row of logits, its log probabilities, and the choice of its largest.
#pragma once
#include "../serial_sum.cpu.h"
#include "settings.cpu.h"
extern "C" float logf(float);

struct Candidate {
  float logprob;
  unsigned id;
};

constexpr long kSmall = 64;  // logits of which the largest is kept
constexpr long kChunk = 256;

// As floats are ordered; NaN is above infinity or below -infinity.
KD_INLINE int order_of(float x) {
  const int bits = int(bits_of(x));
  return bits ^ ((bits >> 31) & 0x7fffffff);
}

KD_INLINE float of_order(int order) {
  return float_of(unsigned(order ^ ((order >> 31) & 0x7fffffff)));
}

struct Row {
  const T* x;
  long count, smalls;
  const int* largest;  // (smalls), in order
  float* p;            // (count): exp(x - most), then free
  unsigned* list;      // (count) candidates, free
  unsigned* table;     // (kTable), free
  float most, minus;   // the largest logit, logsumexp
  float best;          // the largest log probability
  bool is_broken;      // it has no distribution

  Candidate* candidates() const { return (Candidate*)list; }
  float logprob(long i) const { return rounded(widen(x[i]) - minus); }
};

// Of a row's table; what later stages read lies behind it: minus, whether the row is broken, and of
// its order two counts (top_p.cpu.h).
constexpr long kTable = 1 << 16, kMinus = kTable, kBroken = kMinus + 1, kOrdered = kMinus + 2;
constexpr long kWholeTable = kTable + 64;

// Log probabilities of [from, from + kChunk), -inf past the end.
KD_INLINE void logprobs_of(const Row& row, long from, float* to) {
  const long some = row.count - from < kChunk ? row.count - from : kChunk;
  const T* const x = row.x + from;
  const float minus = row.minus;
  for (long i = 0; i < some; ++i) to[i] = rounded(widen(x[i]) - minus);
  for (long i = some; i < kChunk; ++i) to[i] = -kInfinity;
}

// Whether a comes before b among the largest: of equals the lowest id, or the highest.
template <bool kLowest>
KD_INLINE bool is_before(const Candidate& a, const Candidate& b) {
  if (a.logprob != b.logprob) return a.logprob > b.logprob;
  return kLowest ? a.id < b.id : a.id > b.id;
}

// The first `top` of all come first, in any order (quickselect).
template <bool kLowest>
static void select_first(Candidate* all, long count, long top) {
  long from = 0, to = count;
  while (to - from > 1 && top > from && top < to) {
    const Candidate pivot = all[from + (to - from) / 2];
    long i = from, j = to - 1;
    while (i <= j) {
      while (is_before<kLowest>(all[i], pivot)) ++i;
      while (is_before<kLowest>(pivot, all[j])) --j;
      if (i <= j) {
        const Candidate swapped = all[i];
        all[i++] = all[j], all[j--] = swapped;
      }
    }
    if (top <= j + 1)
      to = j + 1;
    else if (top >= i)
      from = i;
    else
      break;
  }
}

template <class Each, bool kBefore(const Each&, const Each&)>
static void sink(Each* all, long at, long count) {
  const Each moved = all[at];
  for (long child; (child = 2 * at + 1) < count; at = child) {
    if (child + 1 < count && kBefore(all[child], all[child + 1])) ++child;
    if (!kBefore(moved, all[child])) break;
    all[at] = all[child];
  }
  all[at] = moved;
}

// In the order of kBefore: by insertion where there are few, else heapsort.
template <class Each, bool kBefore(const Each&, const Each&)>
static void sort_all(Each* all, long count) {
  if (count <= 512) {
    for (long i = 1; i < count; ++i) {
      const Each moved = all[i];
      long at = i;
      for (; at > 0 && kBefore(moved, all[at - 1]); --at) all[at] = all[at - 1];
      all[at] = moved;
    }
    return;
  }
  for (long i = count / 2; i-- > 0;) sink<Each, kBefore>(all, i, count);
  for (long i = count; i-- > 1;) {
    const Each last = all[i];
    all[i] = all[0], all[0] = last;
    sink<Each, kBefore>(all, 0, i);
  }
}

static bool by_id(const Candidate& a, const Candidate& b) {
  return a.id < b.id;
}

// A log probability that at least `top` logits have or exceed: that of the top-th largest of the
// small blocks' largest. -inf where there are too few blocks.
static float bound_of_top(const Row& row, long top, Candidate* scratch) {
  if (2 * top > row.smalls) return -kInfinity;
  for (long i = 0; i < row.smalls; ++i) scratch[i] = {of_order(row.largest[i]), unsigned(i)};
  select_first<true>(scratch, row.smalls, top);
  float least = kInfinity;
  for (long i = 0; i < top; ++i) least = scratch[i].logprob < least ? scratch[i].logprob : least;
  return rounded(least - row.minus);
}

// All whose log probability is at least `least`, in the order of their ids.
static long collect(const Row& row, float least, Candidate* to) {
  long count = 0;
  for (long small = 0; small < row.smalls; ++small) {
    if (!(rounded(of_order(row.largest[small]) - row.minus) >= least)) continue;
    const long from = small * kSmall;
    const long end = from + kSmall < row.count ? from + kSmall : row.count;
    float logprobs[kSmall];
    for (long i = from; i < end; ++i) logprobs[i - from] = row.logprob(i);
    for (long i = from; i < end; ++i) {
      to[count] = {logprobs[i - from], unsigned(i)};
      count += logprobs[i - from] >= least;
    }
  }
  return count;
}

// The `top` largest of those that are at least `least`, or all of them; in any order.
template <bool kLowest>
static long collect_top(const Row& row, float least, long top, Candidate* to) {
  const float bound = bound_of_top(row, top, to);
  const long count = collect(row, bound > least ? bound : least, to);
  if (count <= top) return count;
  select_first<kLowest>(to, count, top);
  return top;
}
