// A token of each row of logits, drawn as mlx-lm draws it: sample_tokens.cpu.cpp says what is computed.
// Sums are made by all threads, so tokens have the distribution of MLX's, and for a key they differ
// from MLX's where a float32 sum decides.
//
// A threadgroup of THREADS threads takes a row. What filters keep is found by bisection of the bits of
// log probabilities: each step sums over the row what lies above. Grid: B * THREADS threads in x. The
// host names of thread positions and ports are those of metal_kernel.
#include <metal_stdlib>
using namespace metal;

#ifndef KD_DTYPE
#define KD_DTYPE 1  // of the logits: 0 float, 1 half, 2 bfloat
#endif
#ifndef KD_ALIGNED
#define KD_ALIGNED 1  // 0: arrays start anywhere, 1: at a multiple of 16 bytes
#endif
#ifndef THREADS
#define THREADS 256  // of a threadgroup: a multiple of 32
#endif
#ifndef FAST
#define FAST 0  // 1: fast::exp
#endif
#define VEC 1

#include "../../common/packs.metal.h"
#define SIMDS (THREADS / 32)
#define SETTINGS 7  // of a row

#include "draws.metal.h"
#if FAST
#define EXP fast::exp
#else
#define EXP precise::exp
#endif

// What is left of a row.
struct Kept {
  float least;      // at least this
  float tie;        // of those equal to it only indices from tie_from on
  uint tie_from;
  float most;       // at most this, but for special tokens
  float kth;        // above it, or equal to it below kth_until
  uint kth_until;
};

// Unsigned numbers in the order of floats.
static uint order_of(float x) {
  const uint bits = as_type<uint>(x);
  return bits >> 31 != 0 ? ~bits : bits | 0x80000000u;
}

static float of_order(uint order) {
  return as_type<float>(order >> 31 != 0 ? order & 0x7fffffffu : ~order);
}

static bool is_special(const device int* special_tokens, uint special, uint count, uint i) {
  for (uint s = 0; s < special; ++s) {
    const int token = special_tokens[s];
    if ((token < 0 ? token + int(count) : token) == int(i)) return true;
  }
  return false;
}

struct Row {
  const device T* x;
  uint count;
  float minus;
  const device int* special_tokens;
  uint special;
};

static float logprob_of(Row row, uint i) {
  return float(T(float(row.x[i]) - row.minus));
}

static bool keeps(Row row, Kept kept, float y, uint i) {
  if (y < kept.least || (y == kept.tie && i < kept.tie_from)) return false;
  if (y < kept.kth || (y == kept.kth && i >= kept.kth_until)) return false;
  return y <= kept.most || is_special(row.special_tokens, row.special, row.count, i);
}

// The least order for which less than `enough` lies above, in mass or in number.
static float bisect(Row row, Kept kept, float best, bool by_mass, float enough,
                    threadgroup float* partial, Lane at) {
  uint low = order_of(-INFINITY);
  uint high = order_of(best);
  while (low < high) {
    const uint middle = low + (high - low) / 2;
    const float above = of_order(middle);
    float sum = 0.0f;
    for (uint i = at.id; i < row.count; i += THREADS) {
      const float y = logprob_of(row, i);
      if (y > above && keeps(row, kept, y, i)) sum += by_mass ? EXP(y) : 1.0f;
    }
    if (sum_over_group(sum, partial, at) < enough)
      high = middle;
    else
      low = middle + 1;
  }
  return of_order(low);
}

// How many are kept above a value, or equal to it with an index in [from, until).
static float count_of(Row row, Kept kept, float value, bool equal, uint from, uint until,
                      threadgroup float* partial, Lane at) {
  float count = 0.0f;
  for (uint i = at.id; i < row.count; i += THREADS) {
    const float y = logprob_of(row, i);
    const bool counts = equal ? y == value && i >= from && i < until : y > value;
    if (counts && keeps(row, kept, y, i)) count += 1.0f;
  }
  return sum_over_group(count, partial, at);
}

// Of those equal to value, the first index below which, or from which on, `wanted` are.
static uint cut_of(Row row, Kept kept, float value, float wanted, bool lowest,
                   threadgroup float* partial, Lane at) {
  uint low = 0;
  uint high = row.count;
  while (low < high) {
    const uint middle = low + (high - low) / 2;
    const float count = lowest ? count_of(row, kept, value, true, 0, middle, partial, at)
                               : count_of(row, kept, value, true, middle, row.count, partial, at);
    if (lowest ? count >= wanted : count <= wanted)
      high = middle;
    else
      low = middle + 1;
  }
  return low;
}

[[max_total_threads_per_threadgroup(THREADS)]] [[kernel]] void mlx_kd_sample_tokens(
    const device T* logits [[buffer(0)]],
    const device uint* key [[buffer(1)]],
    const device int* special_tokens [[buffer(2)]],
    const device float* settings [[buffer(3)]],
    device uint* token [[buffer(4)]],
    device float* logprob [[buffer(5)]],
    device uint* top_tokens [[buffer(6)]],
    device float* top_logprobs [[buffer(7)]],
    constant int& B [[buffer(8)]],
    constant int& V [[buffer(9)]],
    constant int& top [[buffer(10)]],
    constant int& normalised [[buffer(11)]],
    constant int& special [[buffer(12)]],
    constant int& each_row [[buffer(13)]],
    constant int& keys [[buffer(14)]],
    constant int& vector [[buffer(15)]],
    constant float& temperature [[buffer(16)]],
    constant float& top_p [[buffer(17)]],
    constant float& min_p [[buffer(18)]],
    constant float& min_tokens_to_keep [[buffer(19)]],
    constant float& top_k [[buffer(20)]],
    constant float& xtc_probability [[buffer(21)]],
    constant float& xtc_threshold [[buffer(22)]],
    uint3 threadgroup_position_in_grid [[threadgroup_position_in_grid]],
    uint thread_index_in_threadgroup [[thread_index_in_threadgroup]],
    uint thread_index_in_simdgroup [[thread_index_in_simdgroup]],
    uint simdgroup_index_in_threadgroup [[simdgroup_index_in_threadgroup]]) {
  threadgroup float partial[SIMDS];
  threadgroup float shares[THREADS];
  const uint index = threadgroup_position_in_grid.x;
  Lane at;
  at.id = thread_index_in_threadgroup;
  at.lane = thread_index_in_simdgroup;
  at.simd = simdgroup_index_in_threadgroup;
  Row row;
  row.x = logits + ulong(index) * uint(V);
  row.count = uint(V);
  row.minus = 0.0f;
  row.special_tokens = special_tokens;
  row.special = uint(special);

  float most = -INFINITY;
  float broken = 0.0f;
  for (uint i = at.id; i < row.count; i += THREADS) {
    const float x = float(row.x[i]);
    if (isnan(x)) broken = 1.0f;
    if (x > most) most = x;
  }
  most = most_over_group(most, partial, at);
  broken = most_over_group(broken, partial, at);
  if (broken > 0.0f || isinf(most)) {
    if (at.id == 0) {
      token[index] = 0;
      logprob[index] = NAN;
    }
    for (uint i = at.id; i < uint(top); i += THREADS) {
      top_tokens[index * uint(top) + i] = i;
      top_logprobs[index * uint(top) + i] = NAN;
    }
    return;
  }
  if (normalised == 0) {
    float sum = 0.0f;
    for (uint i = at.id; i < row.count; i += THREADS) sum += EXP(float(row.x[i]) - most);
    row.minus = float(T(most + precise::log(sum_over_group(sum, partial, at))));
  }
  const float best = float(T(most - row.minus));

  // Settings and keys: of rows with settings of their own each takes its keys after those before it.
  Key state;
  state.first = key[0];
  state.second = key[1];
  Key of_xtc = state;
  Key of_token = state;
  uint taken = 0;
  float by = temperature == 0.0f ? 0.0f : 1.0f / temperature;
  float p_most = top_p;
  float log_min_p = min_p == 0.0f ? -INFINITY : precise::log(min_p);
  float kept_at_least = min_tokens_to_keep;
  float k = top_k;
  float xtc_share = xtc_probability;
  float xtc_above = xtc_threshold;
  for (uint i = each_row != 0 ? 0 : index; i <= index; ++i) {
    if (each_row != 0) {
      const device float* own = settings + i * SETTINGS;
      by = own[0];
      p_most = own[1];
      log_min_p = own[2];
      kept_at_least = own[3];
      k = own[4];
      xtc_share = own[5];
      xtc_above = own[6];
    }
    if (by != 0.0f && xtc_share > 0.0f) of_xtc = next_key(state, taken, key, uint(keys));
    if (by != 0.0f) of_token = next_key(state, taken, key, uint(keys));
  }
  by = float(T(by));

  Kept kept;
  kept.least = -INFINITY;
  kept.tie = INFINITY;
  kept.tie_from = 0;
  kept.most = INFINITY;
  kept.kth = -INFINITY;
  kept.kth_until = row.count;

  // The largest log probabilities, one after the other.
  float last = INFINITY;
  float last_id = -1.0f;
  for (uint rank = 0; rank < uint(top); ++rank) {
    float largest = -INFINITY;
    float id = float(row.count);
    for (uint i = at.id; i < row.count; i += THREADS) {
      const float y = logprob_of(row, i);
      const bool is_left = y < last || (y == last && float(i) > last_id);
      if (is_left && (y > largest || (y == largest && float(i) < id))) {
        largest = y;
        id = float(i);
      }
    }
    last = most_over_group(largest, partial, at);
    last_id = -most_over_group(largest == last ? -id : -float(row.count), partial, at);
    if (at.id == 0) {
      top_tokens[index * uint(top) + rank] = uint(last_id);
      top_logprobs[index * uint(top) + rank] = last;
    }
  }

  if (by == 0.0f) {
    float first = float(row.count);
    for (uint i = at.id; i < row.count; i += THREADS)
      if (logprob_of(row, i) == best) first = min(first, float(i));
    first = -most_over_group(-first, partial, at);
    if (at.id == 0) {
      token[index] = uint(first);
      logprob[index] = best;
    }
    return;
  }

  if (p_most > 0.0f && p_most < 1.0f) {
    float total = 0.0f;
    for (uint i = at.id; i < row.count; i += THREADS) total += EXP(logprob_of(row, i));
    total = sum_over_group(total, partial, at);
    kept.least = bisect(row, kept, best, true, p_most * total, partial, at);
  }
  if (log_min_p > -INFINITY) {
    const float least = float(T(best + float(T(log_min_p))));
    float wanted = 0.0f;
    float kth = INFINITY;
    if (kept_at_least > 1.0f) kth = bisect(row, kept, best, false, kept_at_least, partial, at);
    if (kth < least) {
      wanted = kept_at_least - count_of(row, kept, kth, false, 0, 0, partial, at);
      kept.tie_from = cut_of(row, kept, kth, wanted, false, partial, at);
      kept.tie = kth;
      kept.least = max(kept.least, kth);
    } else {
      kept.least = max(kept.least, least);
    }
  }
  if (xtc_share > 0.0f && !(uniform_of(of_xtc, 0, 1) > xtc_share)) {
    float sum = 0.0f;
    for (uint i = at.id; i < row.count; i += THREADS) {
      const float y = logprob_of(row, i);
      if (keeps(row, kept, y, i)) sum += EXP(y - best);
    }
    sum = sum_over_group(sum, partial, at);
    float least = INFINITY;
    for (uint i = at.id; i < row.count; i += THREADS) {
      const float y = logprob_of(row, i);
      if (keeps(row, kept, y, i) && EXP(y - best) / sum > xtc_above) least = min(least, y);
    }
    kept.most = -most_over_group(-least, partial, at);
  }
  if (k > 0.0f && k < float(row.count)) {
    const float kth = bisect(row, kept, best, false, k, partial, at);
    const float wanted = k - count_of(row, kept, kth, false, 0, 0, partial, at);
    kept.kth_until = cut_of(row, kept, kth, wanted, true, partial, at);
    kept.kth = kth;
  }

  float best_left = -INFINITY;
  for (uint i = at.id; i < row.count; i += THREADS) {
    const float y = logprob_of(row, i);
    if (keeps(row, kept, y, i)) best_left = max(best_left, y);
  }
  best_left = float(T(most_over_group(best_left, partial, at) * by));

  if ((B == 1 && vector == 0) || each_row != 0) {
    // A thread takes neighbours, so that shares are in the order of indices.
    const uint each = (row.count + THREADS - 1) / THREADS;
    const uint from = min(at.id * each, row.count);
    const uint until = min(from + each, row.count);
    float share = 0.0f;
    for (uint i = from; i < until; ++i) {
      const float y = logprob_of(row, i);
      if (keeps(row, kept, y, i)) share += EXP(float(T(y * by)) - best_left);
    }
    shares[at.id] = share;
    threadgroup_barrier(mem_flags::mem_threadgroup);
    float total = 0.0f;
    for (uint i = 0; i < THREADS; ++i) total += shares[i];
    const float wanted = uniform_of(of_token, 0, 1) * total;
    float before = 0.0f;
    for (uint i = 0; i < at.id; ++i) before += shares[i];
    float after = 0.0f;
    for (uint i = 0; i <= at.id; ++i) after += shares[i];
    // The last thread with a share serves where rounding leaves none.
    float later = 0.0f;
    for (uint i = at.id + 1; i < THREADS; ++i) later += shares[i];
    if (share > 0.0f && before <= wanted && (wanted < after || later == 0.0f)) {
      uint chosen = from;
      float sum = before;
      bool found = false;
      for (uint i = from; i < until; ++i) {
        const float y = logprob_of(row, i);
        if (!found && keeps(row, kept, y, i)) {
          const float weight = EXP(float(T(y * by)) - best_left);
          sum += weight;
          if (weight > 0.0f) chosen = i;
          found = sum > wanted;
        }
      }
      token[index] = chosen;
      logprob[index] = logprob_of(row, chosen);
    }
    return;
  }
  float score = -INFINITY;
  float id = 0.0f;
  for (uint i = at.id; i < row.count; i += THREADS) {
    const float y = logprob_of(row, i);
    if (!keeps(row, kept, y, i)) continue;
    const float u = uniform_of(of_token, index * row.count + i, uint(B) * row.count);
    const float made = float(T(y * by)) - precise::log(-precise::log(u));
    if (made > score) {
      score = made;
      id = float(i);
    }
  }
  const float highest = most_over_group(score, partial, at);
  id = -most_over_group(score == highest ? -id : -float(row.count), partial, at);
  if (at.id == 0) {
    const uint chosen = min(uint(id), row.count - 1);
    token[index] = chosen;
    logprob[index] = logprob_of(row, chosen);
  }
}
