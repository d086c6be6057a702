// clang-format off
// Rows of float32, whose values are too many for bins: a block takes a row. What filters keep is found by bisection
// of the bits of log probabilities, each step a sum over the row, by all threads at once; so a draw has MLX's
// distribution, and differs from MLX's for a key where a sum decides.
#pragma once
#include "settings.cu.h"

// As unsigned numbers in the order of floats.
static __device__ unsigned order_of(float x) {
  const unsigned bits = __float_as_uint(x);
  return bits >> 31 ? ~bits : bits | 0x80000000u;
}

static __device__ float of_order(unsigned order) {
  return __uint_as_float(order >> 31 ? order & 0x7fffffffu : ~order);
}

struct FloatRow {
  const float* x;
  unsigned count, index;
  float minus, best;
  const int* special_tokens;
  unsigned special;
  Kept left;
  float* of_warps;

  __device__ float logprob(unsigned i) const { return x[i] - minus; }
  __device__ bool keeps(float y, unsigned i) const { return is_left(left, special_tokens, special, count, y, i); }

  // Over the threads of the block.
  __device__ float sum(float mine) const { return joined(sum_of_warp(mine), true); }
  __device__ float most(float mine) const { return joined(most_of_warp(mine), false); }
  __device__ float least(float mine) const { return -most(-mine); }
  __device__ float joined(float mine, bool is_sum) const {
    __syncthreads();
    if (lane_id() == 0) of_warps[warp_id()] = mine;
    __syncthreads();
    return is_sum ? sum_of_warp(of_warps[lane_id()]) : most_of_warp(of_warps[lane_id()]);
  }
  // The sum of `term`(y, i) over what is left.
  template <class Term>
  __device__ float sum_of(Term term) const {
    float mine = 0.0f;
    for (unsigned i = threadIdx.x; i < count; i += kThreads)
      if (const float y = logprob(i); keeps(y, i)) mine += term(y, i);
    return sum(mine);
  }
  // The least log probability above which less than `enough` lies, in mass or in number.
  __device__ float bisect(bool by_mass, float enough) const {
    unsigned low = order_of(-infinity()), high = order_of(best);
    while (low < high) {
      const unsigned middle = low + (high - low) / 2;
      const float above = of_order(middle);
      const float found = sum_of([&](float y, unsigned) { return y > above ? by_mass ? expf(y) : 1.0f : 0.0f; });
      if (found < enough)
        high = middle;
      else
        low = middle + 1;
    }
    return of_order(low);
  }
  // Of those equal to value, the first index below which, or from which on, `wanted` are.
  __device__ unsigned cut(float value, float wanted, bool is_lowest) const {
    unsigned low = 0, high = count;
    while (low < high) {
      const unsigned middle = low + (high - low) / 2;
      const float found = sum_of([&](float y, unsigned i) { return y == value && (i < middle) == is_lowest ? 1.0f : 0.0f; });
      if (is_lowest ? found >= wanted : found <= wanted)
        high = middle;
      else
        low = middle + 1;
    }
    return low;
  }
  __device__ float number_above(float value) const {
    return sum_of([&](float y, unsigned) { return y > value ? 1.0f : 0.0f; });
  }
};

static __device__ void filter_row(FloatRow& row, const Settings& settings, Key xtc) {
  Kept& left = row.left;
  if (settings.top_p > 0.0f && settings.top_p < 1.0f) {
    const float total = row.sum_of([](float y, unsigned) { return expf(y); });
    left.least = row.bisect(true, settings.top_p * total);
  }
  if (settings.log_min_p > -infinity()) {
    const float least = row.best + settings.log_min_p;
    const float kth = settings.least_kept > 1.0f ? row.bisect(false, settings.least_kept) : infinity();
    if (kth < least) {
      left.tie_from = row.cut(kth, settings.least_kept - row.number_above(kth), false);
      left.tie = kth, left.least = fmaxf(left.least, kth);
    } else {
      left.least = fmaxf(left.least, least);
    }
  }
  if (settings.xtc_probability > 0.0f && !(uniform_of(xtc, 0, 1) > settings.xtc_probability)) {
    const float all = row.sum_of([&](float y, unsigned) { return expf(y - row.best); });
    float least = infinity();
    for (unsigned i = threadIdx.x; i < row.count; i += kThreads) {
      const float y = row.logprob(i);
      if (row.keeps(y, i) && expf(y - row.best) / all > settings.xtc_threshold) least = fminf(least, y);
    }
    left.most = row.least(least);
  }
  if (settings.top_k > 0.0f && settings.top_k < (float)row.count) {
    const float kth = row.bisect(false, settings.top_k);
    left.kth_until = row.cut(kth, settings.top_k - row.number_above(kth), true);
    left.kth = kth;
  }
}

// By the inverse of the cumulative distribution: threads have neighbours, so that shares are in the order of indices.
static __device__ unsigned draw_row_alone(const FloatRow& row, float by, float most, float uniform, float* shares) {
  const unsigned each = divide_up(row.count, kThreads), from = min(threadIdx.x * each, row.count);
  const unsigned until = min(from + each, row.count);
  const auto weight = [&](unsigned i) {
    const float y = row.logprob(i);
    return row.keeps(y, i) ? expf(y * by - most) : 0.0f;
  };
  float share = 0.0f;
  for (unsigned i = from; i < until; ++i) share += weight(i);
  shares[threadIdx.x] = share;
  __syncthreads();
  float before = 0.0f, total = 0.0f;
  for (unsigned i = 0; i < kThreads; ++i) {
    before = i == threadIdx.x ? total : before;
    total += shares[i];
  }
  // The last with a weight serves where rounding leaves none.
  const float wanted = uniform * total;
  float found = -1.0f;
  if (share > 0.0f && before <= wanted) {
    float sum = before;
    for (unsigned i = from; i < until && sum <= wanted; ++i)
      if (const float one = weight(i); one > 0.0f) sum += one, found = (float)i;
  }
  return (unsigned)fmaxf(row.most(found), 0.0f);
}

static __device__ unsigned draw_row(const kd_arguments& a, const FloatRow& row, const Settings& settings, Key key,
                                    float* shares) {
  const float by = settings.inverse_temperature;
  const unsigned rows = (unsigned)a.dims[KD_DIM_B];
  float most = -infinity(), score = -infinity(), id = (float)row.count;
  for (unsigned i = threadIdx.x; i < row.count; i += kThreads)
    if (const float y = row.logprob(i); row.keeps(y, i)) most = fmaxf(most, y);
  most = row.most(most) * by;
  if ((rows == 1 && !a.dims[KD_DIM_vector]) || a.dims[KD_DIM_each_row])
    return draw_row_alone(row, by, most, uniform_of(key, 0, 1), shares);
  for (unsigned i = threadIdx.x; i < row.count; i += kThreads) {
    const float y = row.logprob(i);
    if (!row.keeps(y, i)) continue;
    const float made = -logf(-logf(uniform_of(key, row.index * row.count + i, rows * row.count))) + y * by;
    if (made > score) score = made, id = (float)i;
  }
  const float highest = row.most(score);
  const unsigned found = (unsigned)row.least(score == highest ? id : (float)row.count);
  return found < row.count ? found : 0;
}

// The largest, one after the other.
static __device__ void write_top_of_row(const kd_arguments& a, const FloatRow& row) {
  const unsigned top = (unsigned)a.dims[KD_DIM_top];
  float last = infinity(), last_id = -1.0f;
  for (unsigned rank = 0; rank < top; ++rank) {
    float largest = -infinity(), id = (float)row.count;
    for (unsigned i = threadIdx.x; i < row.count; i += kThreads) {
      const float y = row.logprob(i);
      const bool is_next = y < last || (y == last && (float)i > last_id);
      if (is_next && (y > largest || (y == largest && (float)i < id))) largest = y, id = (float)i;
    }
    last = row.most(largest);
    last_id = row.least(largest == last ? id : (float)row.count);
    if (threadIdx.x != 0) continue;
    ((unsigned*)a.outputs[2])[row.index * top + rank] = (unsigned)last_id;
    ((float*)a.outputs[3])[row.index * top + rank] = last;
  }
}

static __device__ void sample_row(const kd_arguments& a, FloatRow& row, float* shares) {
  float most = -infinity(), broken = 0.0f;
  for (unsigned i = threadIdx.x; i < row.count; i += kThreads) {
    most = fmaxf(most, row.x[i]);
    broken = isnan(row.x[i]) ? 1.0f : broken;
  }
  most = row.most(most), broken = row.most(broken);
  const unsigned top = (unsigned)a.dims[KD_DIM_top];
  unsigned token = 0;
  if (broken != 0.0f || isinf(most)) {
    row.minus = __int_as_float(0x7fc00000);
    for (unsigned i = threadIdx.x; i < top; i += kThreads) {
      ((unsigned*)a.outputs[2])[row.index * top + i] = i;
      ((float*)a.outputs[3])[row.index * top + i] = row.minus;
    }
  } else {
    if (!a.dims[KD_DIM_normalised]) {
      float mine = 0.0f;
      for (unsigned i = threadIdx.x; i < row.count; i += kThreads) mine += expf(row.x[i] - most);
      row.minus = logf(row.sum(mine)) + most;
    }
    row.best = most - row.minus;
    write_top_of_row(a, row);
    const Settings settings = settings_of(a, row.index);
    const Draws draws = draws_of(a, row.index, settings);
    if (settings.inverse_temperature == 0.0f) {
      float first = (float)row.count;
      for (unsigned i = threadIdx.x; i < row.count; i += kThreads)
        if (row.logprob(i) == row.best) first = fminf(first, (float)i);
      token = (unsigned)row.least(first);
    } else {
      filter_row(row, settings, draws.xtc);
      token = draw_row(a, row, settings, draws.token, shares);
    }
  }
  if (threadIdx.x != 0) return;
  ((unsigned*)a.outputs[0])[row.index] = token;
  ((float*)a.outputs[1])[row.index] = row.logprob(token);
}

extern "C" __global__ void __launch_bounds__(1024) mlx_kd_sample_tokens(const __grid_constant__ kd_arguments a) {
  __shared__ float shares[kThreads], of_warps[kWarps];
  wait_for_others();
  const unsigned ranks = gridDim.x / (unsigned)a.dims[KD_DIM_B];
  if (blockIdx.x % ranks != 0) return;
  FloatRow row = {};
  row.index = blockIdx.x / ranks;
  row.count = (unsigned)a.dims[KD_DIM_V];
  row.x = (const float*)a.inputs[0] + (unsigned long long)row.index * row.count;
  row.special_tokens = (const int*)a.inputs[KD_PORT_special_tokens];
  row.special = (unsigned)a.dims[KD_DIM_special];
  row.of_warps = of_warps;
  sample_row(a, row, shares);
}
