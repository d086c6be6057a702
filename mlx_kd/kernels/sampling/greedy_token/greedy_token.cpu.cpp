// greedy_token: of each row of logits the token of the largest log probability, and that log
// probability, both as the chain x - logsumexp(x), argmax computes them in the type T.
//
// input logits (B, V); outputs token (B) uint32, logprob (B). Rounding x - L to T, with L the
// rounded logsumexp, makes equals of logits that differ, and the lowest index among them wins. Two
// stages:
//
//   mlx_kd_greedy_token       a unit is a block of BLOCK logits of one row: its largest logit m,
//   and
//                             the sum of exp(x - m), to scratch 0 and 1 (B * blocks floats each)
//   mlx_kd_greedy_token_rows  a unit is a row: merges its blocks to L. Rounding is monotonic, so
//   the
//                             largest log probability is that of the largest logit, and the first
//                             block whose largest logit has it holds the token: one block is read
//                             again.
//
// As MLX's argmax does, NaN counts as the largest: a row with NaN, or of -inf alone, gives token 0;
// a row with +inf its first +inf. Their log probability is NaN.
#ifndef KD_DTYPE
#define KD_DTYPE 0  // 0 float32, 1 float16, 2 bfloat16
#endif
#ifndef KD_DIM_V
#define KD_DIM_V 1  // where V is among the sizes
#endif
#ifndef VEC
#define VEC 16  // bytes of a vector of floats
#endif
#ifndef BLOCK
#define BLOCK 4096  // logits of a unit
#endif
#ifndef UNROLL
#define UNROLL 4  // steps a turn of the loops
#endif
#ifndef DEGREE
#define DEGREE 5  // of the polynomial for (2^f - 1) / f
#endif
#ifndef ESTRIN
#define ESTRIN 0  // the polynomial as a chain (0) or as a tree (1)
#endif
#ifndef PREFETCH
#define PREFETCH 0  // bytes ahead of the loop that finds the largest
#endif

#include "../../common/exp2.cpu.h"
#include "../../common/kd_arguments.h"
#include "../../common/steps.cpu.h"

constexpr float kInfinity = __builtin_inff(), kNan = __builtin_nanf("");
constexpr long kLanes = VEC / long(sizeof(float));

struct Row {
  const T* x;
  long count, blocks;
  float* largest;  // (blocks)
  float* sums;     // (blocks)
};

KD_INLINE Row row_of(const kd_arguments* a, long row) {
  const long count = a->dims[KD_DIM_V], blocks = (count + BLOCK - 1) / BLOCK;
  return {(const T*)a->inputs[0] + row * count, count, blocks, (float*)a->scratch[0] + row * blocks,
          (float*)a->scratch[1] + row * blocks};
}

// The last logits of a block, and -inf after them.
KD_INLINE Step load_last(const T* from, long count) {
  T whole[kStep];
  for (long i = 0; i < kStep; ++i)
#if KD_DTYPE == 0
    whole[i] = i < count ? from[i] : -kInfinity;
#else
    whole[i] = i < count ? from[i] : T(KD_DTYPE == 1 ? 0xfc00 : 0xff80);
#endif
  return load(whole);
}

KD_INLINE Step load_up_to(const T* from, long count) {
  return count < kStep ? load_last(from, count) : load(from);
}

// NaN in x is passed over.
KD_INLINE Floats larger(Floats x, Floats than) {
  return x > than ? x : than;
}

KD_INLINE float largest_lane(Floats x) {
  float result = x[0];
  for (long i = 1; i < kLanes; ++i) result = x[i] > result ? x[i] : result;
  return result;
}

KD_INLINE float sum_of_lanes(Floats x) {
  for (long half = kLanes / 2; half > 0; half /= 2)
    for (long i = 0; i < half; ++i) x[i] += x[i + half];
  return x[0];
}

KD_INLINE bool any_lane(Uints mask) {
  unsigned long words[VEC / sizeof(unsigned long)], all_of_them = 0;
  __builtin_memcpy(words, &mask, sizeof mask);
  for (unsigned long word : words) all_of_them |= word;
  return all_of_them != 0;
}

static float largest_of(const T* x, long count) {
  Floats most[UNROLL * kParts];
  KD_UNROLL
  for (Floats& each : most) each = all(-kInfinity);
  long j = 0;
  for (; j + UNROLL * kStep <= count; j += UNROLL * kStep) {
    if constexpr (PREFETCH > 0) fetch_lines<UNROLL * kStepBytes>(x + j, PREFETCH);
    KD_UNROLL
    for (int k = 0; k < UNROLL; ++k) {
      const Step step = load(x + j + k * kStep);
      KD_UNROLL
      for (int p = 0; p < kParts; ++p)
        most[k * kParts + p] = larger(step.part[p], most[k * kParts + p]);
    }
  }
  for (; j < count; j += kStep) {
    const Step step = load_up_to(x + j, count - j);
    for (int p = 0; p < kParts; ++p) most[p] = larger(step.part[p], most[p]);
  }
  for (int k = 1; k < UNROLL * kParts; ++k) most[0] = larger(most[k], most[0]);
  return largest_lane(most[0]);
}

// exp(x) for x <= 0 or NaN; 0 below -88.
KD_INLINE Floats exp_of(Floats x) {
  x = x < all(-88.0f) ? all(-88.0f) : x;
  const Power power = power_of_two(x, 0x1.715476p0f);
  return power.scale * (1.0f + power.more);
}

// Sum of exp(x - most), `most` finite.
static float sum_of(const T* x, long count, float most) {
  Floats sums[UNROLL * kParts] = {};
  long j = 0;
  for (; j + UNROLL * kStep <= count; j += UNROLL * kStep) {
    KD_UNROLL
    for (int k = 0; k < UNROLL; ++k) {
      const Step step = load(x + j + k * kStep);
      KD_UNROLL
      for (int p = 0; p < kParts; ++p) sums[k * kParts + p] += exp_of(step.part[p] - most);
    }
  }
  for (; j < count; j += kStep) {
    const Step step = load_up_to(x + j, count - j);
    for (int p = 0; p < kParts; ++p) sums[p] += exp_of(step.part[p] - most);
  }
  for (int k = 1; k < UNROLL * kParts; ++k) sums[0] += sums[k];
  return sum_of_lanes(sums[0]);
}

// For a block whose largest logit is infinite: NaN if it holds one, else 0.
static float nan_or_zero(const T* x, long count) {
  Uints found = {};
  for (long j = 0; j < count; j += kStep) {
    const Step step = load_up_to(x + j, count - j);
    for (int p = 0; p < kParts; ++p) found |= (Uints)(step.part[p] != step.part[p]);
  }
  return any_lane(found) ? kNan : 0.0f;
}

extern "C" void mlx_kd_greedy_token(const kd_arguments* a, long begin, long end) {
  for (long unit = begin; unit < end; ++unit) {
    const long blocks = row_of(a, 0).blocks, block = unit % blocks;
    const Row row = row_of(a, unit / blocks);
    const T* const x = row.x + block * BLOCK;
    const long count = block + 1 < blocks ? BLOCK : row.count - block * BLOCK;
    const float most = largest_of(x, count);
    row.largest[block] = most;
    row.sums[block] = most - most == 0.0f ? sum_of(x, count, most) : nan_or_zero(x, count);
  }
}

// log(x) of a normal x > 0, to a rounding of double: x = 2^n m, and the series of atanh.
static double log_of(double x) {
  const unsigned long bits = __builtin_bit_cast(unsigned long, x);
  const long n = long(bits >> 52) - 1023;
  double m = __builtin_bit_cast(double, (bits & 0xfffffffffffffUL) | 1023UL << 52),
         exponent = double(n);
  if (m > 1.4142135623730951) m *= 0.5, exponent += 1;
  const double z = (m - 1) / (m + 1), z2 = z * z;
  double series = 0;
  for (int k = 19; k > 0; k -= 2) series = series * z2 + 1.0 / k;
  return exponent * 0.6931471805599453 + 2 * z * series;
}

KD_INLINE float rounded(float x) {
  Step step;
  for (Floats& part : step.part) part = all(x);
  return rounded(step).part[0][0];
}

// Sum of exp(x - most) over the row; NaN where a block's is.
static float merged(const Row& row, float most) {
  Floats sum = {};
  for (long j = 0; j < row.blocks; j += kLanes) {
    Floats largest = all(-kInfinity), sums = {};
    for (long i = 0; i < kLanes && j + i < row.blocks; ++i)
      largest[i] = row.largest[j + i], sums[i] = row.sums[j + i];
    sum += exp_of(largest - most) * sums;
  }
  return sum_of_lanes(sum);
}

static bool has_nan(const Row& row) {
  float sum = 0;
  for (long j = 0; j < row.blocks; ++j) sum += row.sums[j];
  return sum != sum;
}

// The first logit of the row for which rounded(x - minus) is `wanted`.
static long first_of(const Row& row, float minus, float wanted) {
  long block = 0;
  while (block + 1 < row.blocks && rounded(row.largest[block] - minus) != wanted) ++block;
  const long from = block * BLOCK;
  const long count = block + 1 < row.blocks ? BLOCK : row.count - from;
  for (long j = 0; j < count; j += kStep) {
    Step step = load_up_to(row.x + from + j, count - j);
    for (Floats& part : step.part) part -= minus;
    step = rounded(step);
    Uints found = {};
    for (const Floats& part : step.part) found |= (Uints)(part == all(wanted));
    if (!any_lane(found)) continue;
    for (long i = 0; i < kStep; ++i)
      if (step.part[i % kParts][i / kParts] == wanted) return from + j + i;
  }
  return 0;
}

extern "C" void mlx_kd_greedy_token_rows(const kd_arguments* a, long begin, long end) {
  for (long unit = begin; unit < end; ++unit) {
    const Row row = row_of(a, unit);
    float most = -kInfinity, logprob = kNan;
    for (long j = 0; j < row.blocks; ++j) most = row.largest[j] > most ? row.largest[j] : most;
    long token = 0;
    if (most - most == 0.0f) {
      const float sum = merged(row, most);
      if (sum == sum) {
        const float minus = rounded(float(double(most) + log_of(double(sum))));
        logprob = rounded(most - minus);
        token = first_of(row, minus, logprob);
      }
    } else if (most == kInfinity && !has_nan(row)) {
      token = first_of(row, 0.0f, kInfinity);
    }
    ((unsigned*)a->outputs[0])[unit] = unsigned(token);
    Step stored;
    for (Floats& part : stored.part) part = all(logprob);
    store_some((T*)a->outputs[1] + unit, stored, 1);
  }
}
