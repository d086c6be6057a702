// sample_tokens: of each row of logits a token, drawn as mlx-lm's chain draws it on MLX's CPU back
// end, bit for bit, without a sort.
//
// inputs: logits (B, V), key uint32 (2) or (keys, 2), special_tokens int32 (special), settings
// float32 (B, kSettings) or none; outputs: token uint32 (B), logprob float32 (B), top_tokens uint32
// (B, top), top_logprobs float32 (B, top). Stages:
//
//   mlx_kd_sample_tokens         a unit is a block of a row: the largest of each kSmall logits
//   mlx_kd_sample_tokens_exps    the same unit: exp(x - most); where logits are not yet normalised
//   mlx_kd_sample_tokens_sums    a unit is a row: the sum in MLX's order, the `top` largest
//   mlx_kd_sample_tokens_counts  a unit is one of the `stage` parts of a row: for top_p
//   mlx_kd_sample_tokens_places  a unit is a row: for top_p, of float32
//   mlx_kd_sample_tokens_order   a unit is a part: for top_p, of float32
//   mlx_kd_sample_tokens_powers  a unit is a part: for top_p, of float32
//   mlx_kd_sample_tokens_rows    a unit is a row: filters, the draw
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
#define KD_PORT_key 1
#define KD_PORT_special_tokens 2
#define KD_PORT_settings 3
#ifndef BLOCK
#define BLOCK 4096  // logits of a unit: a multiple of 256
#endif

#include "../mlx_numbers.cpu.h"
#include "filters.cpu.h"

struct Part {
  long row, from, count;
};

KD_INLINE Part part_of(const kd_arguments* a, long unit) {
  const long width = a->dims[KD_DIM_V], blocks = (width + BLOCK - 1) / BLOCK;
  const long from = unit % blocks * BLOCK;
  return {unit / blocks, from, width - from < BLOCK ? width - from : BLOCK};
}

static Row row_of(const kd_arguments* a, long index) {
  const long count = a->dims[KD_DIM_V], smalls = (count + kSmall - 1) / kSmall;
  const long room = count > kTable ? count : kTable;
  Row row = {};
  row.x = (const T*)a->inputs[0] + index * count;
  row.count = count;
  row.smalls = smalls;
  row.largest = (int*)a->scratch[0] + index * smalls;
  row.p = (float*)a->scratch[1] + index * room;
  row.list = (unsigned*)a->scratch[2] + index * 2 * (count + kSmall);
  row.table = (unsigned*)a->scratch[3] + index * kWholeTable;
  return row;
}

// Ordered integers of T: NaN is beyond those of the infinities.
#if KD_DTYPE == 0
KD_INLINE int ordered(T x) {
  return order_of(x);
}
constexpr int kOrderOfInfinity = 0x7f800000;
#else
KD_INLINE short ordered(T x) {
  const short bits = short(x);
  return short(bits ^ ((bits >> 15) & 0x7fff));
}
constexpr int kOrderOfInfinity = KD_DTYPE == 1 ? 0x7c00 : 0x7f80;
#endif

KD_INLINE int order_in_float(int order_in_t) {
#if KD_DTYPE == 0
  return order_in_t;
#else
  return order_of(widen(T(order_in_t ^ ((order_in_t >> 15) & 0x7fff))));
#endif
}

constexpr int kNoOrder = 0x7fffffff;  // the largest of logits with NaN

extern "C" void mlx_kd_sample_tokens(const kd_arguments* a, long begin, long end) {
  for (long unit = begin; unit < end; ++unit) {
    const Part part = part_of(a, unit);
    const Row row = row_of(a, part.row);
    int* const largest = (int*)row.largest;
    for (long at = 0; at < part.count; at += kSmall) {
      const T* const x = row.x + part.from + at;
      const long some = part.count - at < kSmall ? part.count - at : kSmall;
      auto most = ordered(x[0]), least = most;
      if (some == kSmall) {
        for (long i = 0; i < kSmall; ++i) {
          const auto order = ordered(x[i]);
          most = order > most ? order : most;
          least = order < least ? order : least;
        }
      } else {
        for (long i = 0; i < some; ++i) {
          const auto order = ordered(x[i]);
          most = order > most ? order : most;
          least = order < least ? order : least;
        }
      }
      const bool broken = most > kOrderOfInfinity || least < ~kOrderOfInfinity;
      largest[(part.from + at) / kSmall] = broken ? kNoOrder : order_in_float(most);
    }
  }
}

static int largest_of(const Row& row) {
  int most = row.largest[0];
  for (long i = 0; i < row.smalls; ++i) most = row.largest[i] > most ? row.largest[i] : most;
  return most;
}

extern "C" void mlx_kd_sample_tokens_exps(const kd_arguments* a, long begin, long end) {
  for (long unit = begin; unit < end; ++unit) {
    const Part part = part_of(a, unit);
    const Row row = row_of(a, part.row);
    const float most = of_order(largest_of(row));
    const T* const x = row.x + part.from;
    float* const p = row.p + part.from;
    for (long i = 0; i < part.count; ++i) p[i] = exp_as_mlx(widen(x[i]) - most);
  }
}

// The first with the largest log probability.
static long first_best(const Row& row) {
  for (long small = 0; small < row.smalls; ++small) {
    if (rounded(of_order(row.largest[small]) - row.minus) != row.best) continue;
    for (long i = small * kSmall; i < row.count; ++i)
      if (row.logprob(i) == row.best) return i;
  }
  return 0;
}

KD_INLINE bool is_better(const Candidate& a, const Candidate& b) {
  return is_before<true>(a, b);
}

static void write_top(const kd_arguments* a, const Row& row, long index) {
  const long top = a->dims[KD_DIM_top];
  if (top == 0) return;
  unsigned* const ids = (unsigned*)a->outputs[2] + index * top;
  float* const logprobs = (float*)a->outputs[3] + index * top;
  Candidate* const list = row.candidates();
  const long found = collect_top<true>(row, -kInfinity, top, list);
  sort_all<Candidate, is_better>(list, found);
  for (long i = 0; i < found; ++i) ids[i] = list[i].id, logprobs[i] = list[i].logprob;
}

static void write_broken(const kd_arguments* a, long index) {
  const long top = a->dims[KD_DIM_top];
  ((unsigned*)a->outputs[0])[index] = 0;
  ((float*)a->outputs[1])[index] = kNan;
  for (long i = 0; i < top; ++i) {
    ((unsigned*)a->outputs[2])[index * top + i] = unsigned(i);
    ((float*)a->outputs[3])[index * top + i] = kNan;
  }
}

static long token_of(const kd_arguments* a, const Row& row, long index, const Draws& draws) {
  const Settings settings = settings_of(a, index);
  if (settings.inverse_temperature == 0) return first_best(row);
  const float by = rounded(settings.inverse_temperature);
  const Left left = filtered(a, row, settings, draws.xtc);
  const long rows = a->dims[KD_DIM_B];
  const bool is_alone = rows == 1 && !a->dims[KD_DIM_vector];
  return is_alone || a->dims[KD_DIM_each_row]
             ? draw_alone(row, left, by, draws.token)
             : draw_together(row, left, by, draws.token, index, rows);
}

static Row row_with_sum(const kd_arguments* a, long index) {
  Row row = row_of(a, index);
  row.most = of_order(largest_of(row));
  row.minus = float_of(row.table[kMinus]);
  row.is_broken = row.table[kBroken] != 0;
  row.best = rounded(row.most - row.minus);
  return row;
}

extern "C" void mlx_kd_sample_tokens_sums(const kd_arguments* a, long begin, long end) {
  for (long index = begin; index < end; ++index) {
    const Row row = row_of(a, index);
    const int order = largest_of(row);
    const float most = of_order(order);
    row.table[kBroken] = order == kNoOrder || most - most != 0;
    row.table[kMinus] = 0;
    if (row.table[kBroken]) continue;
    if (!a->dims[KD_DIM_normalised])
      row.table[kMinus] = bits_of(rounded(logf(serial_sum(0, row.p, row.count)) + most));
    write_top(a, row_with_sum(a, index), index);
  }
}

// --- top_p ---

KD_INLINE bool has_top_p(const kd_arguments* a, const Row& row, long index) {
  const Settings settings = settings_of(a, index);
  return !row.is_broken && settings.inverse_temperature != 0 && is_top_p(settings.top_p);
}

static bool any_has_top_p(const kd_arguments* a) {
  const long rows = a->dims[KD_DIM_each_row] ? a->dims[KD_DIM_B] : 1;
  for (long index = 0; index < rows; ++index) {
    const Settings settings = settings_of(a, index);
    if (settings.inverse_temperature != 0 && is_top_p(settings.top_p)) return true;
  }
  return false;
}

// Whether these stages have anything to do.
extern "C" bool mlx_kd_sample_tokens_counts_runs(const kd_arguments* a) {
  return any_has_top_p(a);
}
extern "C" bool mlx_kd_sample_tokens_places_runs(const kd_arguments* a) {
  return KD_DTYPE == 0 && any_has_top_p(a);
}
extern "C" bool mlx_kd_sample_tokens_order_runs(const kd_arguments* a) {
  return KD_DTYPE == 0 && any_has_top_p(a);
}
extern "C" bool mlx_kd_sample_tokens_powers_runs(const kd_arguments* a) {
  return KD_DTYPE == 0 && any_has_top_p(a);
}

// act(row, part, parts) for each part of a row of which top_p keeps some; a unit is one.
template <class Act>
KD_INLINE void each_part(const kd_arguments* a, long begin, long end, const Act& act) {
  for (long unit = begin; unit < end; ++unit) {
    const long parts = a->stage, index = unit / parts;
    const Row row = row_with_sum(a, index);
    if (has_top_p(a, row, index)) act(row, unit - index * parts, parts);
  }
}

extern "C" void mlx_kd_sample_tokens_counts(const kd_arguments* a, long begin, long end) {
  each_part(a, begin, end, [](const Row& row, long part, long parts) {
    const Bins bins = bins_of(row);
    count_part(row, bins, share_of(row, bins, part, parts));
  });
}

extern "C" void mlx_kd_sample_tokens_places([[maybe_unused]] const kd_arguments* a,
                                            [[maybe_unused]] long begin,
                                            [[maybe_unused]] long end) {
#if KD_DTYPE == 0
  for (long index = begin; index < end; ++index) {
    const Row row = row_with_sum(a, index);
    if (has_top_p(a, row, index)) place_bins(row, bins_of(row));
  }
#endif
}

extern "C" void mlx_kd_sample_tokens_order([[maybe_unused]] const kd_arguments* a,
                                           [[maybe_unused]] long begin, [[maybe_unused]] long end) {
#if KD_DTYPE == 0
  each_part(a, begin, end, [](const Row& row, long part, long parts) {
    const Bins bins = bins_of(row);
    order_part(row, bins, share_of(row, bins, part, parts));
  });
#endif
}

extern "C" void mlx_kd_sample_tokens_powers([[maybe_unused]] const kd_arguments* a,
                                            [[maybe_unused]] long begin,
                                            [[maybe_unused]] long end) {
#if KD_DTYPE == 0
  each_part(a, begin, end, powers_of_part);
#endif
}

extern "C" void mlx_kd_sample_tokens_rows(const kd_arguments* a, long begin, long end) {
  for (long index = begin; index < end; ++index) {
    const Row row = row_with_sum(a, index);
    const Draws draws = draws_of(a, index);
    if (row.is_broken) {
      write_broken(a, index);
      continue;
    }
    const long token = token_of(a, row, index, draws);
    ((unsigned*)a->outputs[0])[index] = unsigned(token);
    ((float*)a->outputs[1])[index] = row.logprob(token);
  }
}
