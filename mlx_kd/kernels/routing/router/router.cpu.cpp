// router: the experts that each token chooses, and their weights.
//
// inputs logits (M, E) of type T, correction (E) float or none; outputs ids (M, top) uint32,
// weights (M, top) of type T, or float of sigmoids. A unit is a token. Scores s are a softmax of
// all logits (scoring 0), sigmoids (1), or a softmax of the chosen ones (2), in float. What decides
// is the logit, or s + correction; among equals the lowest index. Of groups of experts, those with
// the largest (sums of the two largest) scores are chosen first. scratch 0: 3 floats an expert,
// rounded up.
//
// A row that has NaN, or whose softmax has none but -inf or a +inf, gets the first ids and NaN.
#ifndef KD_DTYPE
#define KD_DTYPE 0  // 0 float32, 1 float16, 2 bfloat16
#endif
#ifndef KD_DIM_M
#define KD_DIM_M 0
#define KD_DIM_E 1
#define KD_DIM_top 2
#define KD_DIM_scoring 3
#define KD_DIM_normalise 4
#define KD_DIM_groups 5
#define KD_DIM_top_groups 6
#define KD_DIM_group_best 7
#define KD_DIM_has_correction 8
#define KD_SCALAR_scale 0
#endif
#ifndef VEC
#define VEC 16  // bytes of a vector of floats
#endif
#ifndef DEGREE
#define DEGREE 5  // of the polynomial for (2^f - 1) / f
#endif
#ifndef ESTRIN
#define ESTRIN 0  // the polynomial as a chain (0) or as a tree (1)
#endif

#include "../../common/exp2.cpu.h"
#include "../../common/kd_arguments.h"
#include "../../common/steps.cpu.h"

constexpr float kInfinity = __builtin_inff(), kNan = __builtin_nanf("");
constexpr long kLanes = VEC / long(sizeof(float));
enum Scoring { kSoftmax, kSigmoid, kSoftmaxOfChosen };

struct Row {
  const kd_arguments* a;
  long experts, top;
  float* x;       // the logits, -inf behind the last
  float* scores;  // s
  float* choice;  // what decides; NaN once chosen
  const float* correction;
};

// e^x for x <= 0; NaN for NaN.
KD_INLINE Floats exponential(Floats x) {
  x = x < -88.0f ? all(-88.0f) : x;
  const Power power = power_of_two(x, 0x1.715476p0f);
  return power.scale * (1.0f + power.more);
}

KD_INLINE Floats lanes_at(const float* from) {
  Floats result;
  __builtin_memcpy(&result, from, sizeof result);
  return result;
}

static void widen_row(const T* from, const Row& row) {
  long j = 0;
  for (; j < row.experts; j += kStep) {
    const long left = row.experts - j;
    const Step step = left < kStep ? load_some(from + j, left) : load(from + j);
    for (long i = 0; i < kStep && i < left; ++i) row.x[j + i] = step.part[i % kParts][i / kParts];
  }
  for (j = row.experts; j % 16 != 0; ++j) row.x[j] = -kInfinity;
}

// The largest logit; NaN if there is one.
static float largest_logit(const Row& row) {
  float most = -kInfinity;
  for (long i = 0; i < row.experts; ++i) {
    if (row.x[i] != row.x[i]) return kNan;
    most = row.x[i] > most ? row.x[i] : most;
  }
  return most;
}

// e^(x - most) and their sum.
static float add_exponentials(const Row& row, float most) {
  Floats sums = {};
  for (long j = 0; j < row.experts; j += kLanes) {
    const Floats part = exponential(lanes_at(row.x + j) - most);
    __builtin_memcpy(row.scores + j, &part, sizeof part);
    sums += part;
  }
  float sum = 0;
  for (long i = 0; i < kLanes; ++i) sum += sums[i];
  return sum;
}

static void make_scores(const Row& row, long scoring, float most) {
  if (scoring == kSigmoid) {
    for (long j = 0; j < row.experts; j += kLanes) {
      const Floats x = lanes_at(row.x + j), e = exponential(x < 0.0f ? x : -x);
      const Floats one = 1.0f / (1.0f + e), part = x < 0.0f ? e * one : one;
      __builtin_memcpy(row.scores + j, &part, sizeof part);
    }
    return;
  }
  const float sum = add_exponentials(row, most);
  if (scoring == kSoftmax)
    for (long i = 0; i < row.experts; ++i) row.scores[i] /= sum;
}

// The largest score of a group, or the sum of the two largest.
static float score_of_group(const Row& row, long begin, long end, long best) {
  float first = -kInfinity, second = -kInfinity;
  for (long i = begin; i < end; ++i) {
    const float score = row.correction ? row.choice[i] : row.scores[i];
    if (score > first)
      second = first, first = score;
    else if (score > second)
      second = score;
  }
  return best == 2 ? first + second : first;
}

// Experts of other groups than the first `top_groups` count 0, as MLX's models have it; where
// logits decide, they come last.
static void mask_groups(const Row& row) {
  const long groups = row.a->dims[KD_DIM_groups], each = row.experts / groups;
  const long best = row.a->dims[KD_DIM_group_best];
  float* const of_groups = row.x;  // the logits are not needed any more
  for (long g = 0; g < groups; ++g)
    of_groups[g] = score_of_group(row, g * each, (g + 1) * each, best);
  for (long i = 0; i < row.a->dims[KD_DIM_top_groups]; ++i) {
    long chosen = -1;
    for (long g = 0; g < groups; ++g)
      if (of_groups[g] == of_groups[g] && (chosen < 0 || of_groups[g] > of_groups[chosen]))
        chosen = g;
    of_groups[chosen] = kNan;
  }
  for (long g = 0; g < groups; ++g)
    for (long i = g * each; of_groups[g] == of_groups[g] && i < (g + 1) * each; ++i)
      row.choice[i] = row.correction ? 0.0f : -kInfinity;
}

// The first of the largest that are left.
static long take_largest(const Row& row) {
  long best = -1;
  for (long i = 0; i < row.experts; ++i)
    if (row.choice[i] == row.choice[i] && (best < 0 || row.choice[i] > row.choice[best])) best = i;
  row.choice[best] = kNan;
  return best;
}

static void put_weight(const kd_arguments* a, long at, float weight) {
  if (a->dims[KD_DIM_scoring] == kSigmoid) {
    ((float*)a->outputs[1])[at] = weight;
  } else {
    Step step = {};
    step.part[0][0] = weight;
    store_some((T*)a->outputs[1] + at, step, 1);
  }
}

// false: there is no right choice.
static bool prepare_choice(const Row& row, long scoring) {
  const float most = largest_logit(row);
  if (most != most) return false;
  if (scoring != kSigmoid && (most == kInfinity || most == -kInfinity)) return false;
  make_scores(row, scoring, most);
  for (long i = 0; i < row.experts; ++i) {
    row.choice[i] = row.correction ? row.scores[i] + row.correction[i] : row.x[i];
    if (row.choice[i] != row.choice[i]) return false;
  }
  if (row.a->dims[KD_DIM_groups] > 1) mask_groups(row);
  return true;
}

static void route(const Row& row, long token) {
  const kd_arguments* const a = row.a;
  const long scoring = a->dims[KD_DIM_scoring], first = token * row.top;
  unsigned* const ids = (unsigned*)a->outputs[0] + first;
  if (!prepare_choice(row, scoring)) {
    for (long i = 0; i < row.top; ++i) {
      ids[i] = unsigned(i);
      put_weight(a, first + i, kNan);
    }
    return;
  }
  float sum = 0;
  for (long i = 0; i < row.top; ++i) {
    ids[i] = unsigned(take_largest(row));
    sum += row.scores[ids[i]];
  }
  const bool normalises = a->dims[KD_DIM_normalise] != 0 || scoring == kSoftmaxOfChosen;
  const float scale = float(a->scalars[KD_SCALAR_scale]);
  for (long i = 0; i < row.top; ++i)
    put_weight(a, first + i, (normalises ? row.scores[ids[i]] / sum : row.scores[ids[i]]) * scale);
}

extern "C" void mlx_kd_router(const kd_arguments* a, long begin, long end) {
  const long experts = a->dims[KD_DIM_E], stride = (experts + 15) / 16 * 16;
  for (long token = begin; token < end; ++token) {
    float* const floats = (float*)a->scratch[0] + token * 3 * stride;
    const Row row = {a,
                     experts,
                     a->dims[KD_DIM_top],
                     floats,
                     floats + stride,
                     floats + 2 * stride,
                     a->dims[KD_DIM_has_correction] ? (const float*)a->inputs[1] : nullptr};
    widen_row((const T*)a->inputs[0] + token * experts, row);
    route(row, token);
  }
}
