// mlx-lm's filters, in its order: top_p, min_p, xtc, top_k.
#pragma once
#include "draw.cpu.h"
#include "top_p.cpu.h"

// min_p keeps what is at least the largest plus log(min_p), and the `kept` largest.
static void apply_min_p(const Row& row, float log_min_p, long kept, Left& left) {
  const float least = rounded(row.best + rounded(log_min_p));
  if (kept > 1) {
    const long found = collect_top<false>(row, left.least, kept, left.list = row.candidates());
    long above = 0;
    for (long i = 0; i < found; ++i) above += left.list[i].logprob >= least;
    if (above < found) {
      sort_all<Candidate, by_id>(left.list, left.count = found);
      return;
    }
    left.list = nullptr;
  }
  left.least = least > left.least ? least : left.least;
}

static void make_list(const Row& row, Left& left) {
  if (left.list) return;
  left.list = row.candidates();
  left.count = collect(row, left.least, left.list);
}

// The softmax that MLX makes of what is left, whose sum is kept in T; at row.p.
static void softmax_of_left(const Row& row, const Left& left) {
  float* const p = row.p;
  float most = -kInfinity, sum = 0;
  for (long i = 0; i < left.count; ++i)
    most = left.list[i].logprob > most ? left.list[i].logprob : most;
  for (long i = 0; i < left.count; ++i)
    p[i] = rounded(exp_as_mlx(rounded(left.list[i].logprob - most)));
  for (long i = 0; i < left.count; ++i) sum = rounded(sum + p[i]);
  const float by = rounded(1 / sum);
  for (long i = 0; i < left.count; ++i) p[i] = rounded(p[i] * by);
}

KD_INLINE bool is_special(const kd_arguments* a, unsigned id) {
  const int* const special = (const int*)a->inputs[KD_PORT_special_tokens];
  for (long i = 0; i < a->dims[KD_DIM_special]; ++i) {
    const long at = special[i] < 0 ? special[i] + a->dims[KD_DIM_V] : special[i];
    if (at == long(id)) return true;
  }
  return false;
}

// xtc drops the most probable, down to the least that exceeds the threshold, which stays.
static void apply_xtc(const kd_arguments* a, const Row& row, float threshold, Left& left) {
  make_list(row, left);
  softmax_of_left(row, left);
  const float more_than = rounded(threshold);
  float least = kInfinity;
  for (long i = 0; i < left.count; ++i)
    if (row.p[i] > more_than && row.p[i] < least) least = row.p[i];
  long kept = 0;
  for (long i = 0; i < left.count; ++i)
    if (!(row.p[i] > least) || is_special(a, left.list[i].id)) left.list[kept++] = left.list[i];
  left.count = kept;
}

static void apply_top_k(const Row& row, long top, Left& left) {
  if (!left.list) {
    left.list = row.candidates();
    left.count = collect_top<true>(row, left.least, top, left.list);
  } else if (left.count > top) {
    select_first<true>(left.list, left.count, top);
    left.count = top;
  }
  sort_all<Candidate, by_id>(left.list, left.count);
}

static Left filtered(const kd_arguments* a, const Row& row, const Settings& settings, Key xtc) {
  Left left = {nullptr, 0, -kInfinity};
  long about = row.count;
  if (is_top_p(settings.top_p)) left.least = threshold_of(row, settings.top_p, about);
  if (settings.log_min_p > -kInfinity)
    apply_min_p(row, settings.log_min_p, settings.least_kept, left);
  if (settings.xtc_probability > 0 && !(uniform_of(word_of(xtc, 0, 1)) > settings.xtc_probability))
    apply_xtc(a, row, settings.xtc_threshold, left);
  if (settings.top_k > 0 && settings.top_k < row.count) apply_top_k(row, settings.top_k, left);
  if (about < row.count / 32) make_list(row, left);  // costs less than all of the row
  return left;
}
