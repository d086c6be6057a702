// attention_quantized: y = softmax(scale q k^T) v for each head, with keys and values as codes.
//
// inputs q (B, Hq, M, Dk); codes, scales and biases of keys, then of values, (B, Hk, S, D bits /
// 32) uint32 and (B, Hk, S, D / group); mask (B, Hq, M, S) bool if the sizes say so; all may be
// strided. Output y (B, Hq, M, Dv).
//
// The G M rows of the G = Hq / Hk query heads that share a key head are cut into blocks of ROWS. A
// unit is a block and one of the `stage` parts of its keys. An element is scale code + bias, made
// in a register and used for all rows of the block; it is never stored. Scores are sums over
// vectors of elements: as many of them at once as a vector has lanes, so that folding them fills
// one vector. With one part the unit writes y; with several it writes its sums to scratch memory,
// and mlx_kd_attention_quantized_merge, whose unit is a block, adds them:
//   scratch 0 (blocks, parts, ROWS, 2): the largest score and the sum of powers
//   scratch 1 (blocks, parts, ROWS, Dv): the sum over v
#ifndef KD_DTYPE
#define KD_DTYPE 0  // 0 float32, 1 float16, 2 bfloat16
#endif
#ifndef VEC
#define VEC 16  // bytes of a vector of floats
#endif
#ifndef BF16
#define BF16 0  // bfloat16 is rounded by integer arithmetic (0) or by AVX512_BF16 (1)
#endif
#ifndef ROWS
#define ROWS 4  // of a block: 1, 2, 4
#endif
#ifndef TILE
#define TILE 64  // keys at a time: a multiple of 16
#endif
#ifndef STREAM
#define STREAM 0
#endif

#include "../../common/kd_arguments.h"
#include "codes.cpu.h"

#ifndef KD_DIM_S
#define KD_DIM_S 0
#define KD_DIM_B 1
#define KD_DIM_Hq 2
#define KD_DIM_Hk 3
#define KD_DIM_M 4
#define KD_DIM_Dk 5
#define KD_DIM_Dv 6
#define KD_DIM_causal 7
#define KD_DIM_has_mask 10
#define KD_DIM_bits 8
#define KD_DIM_group_size 9
#define KD_SCALAR_scale 0
#endif

constexpr int kVectors = TILE / kLanes;
constexpr long kWidest = 1024, kMostGroups = kWidest / 32;
constexpr float kInfinity = __builtin_inff(), kMasked = -0x1p126f, kLog2E = 0x1.715476p+0f;

KD_INLINE Floats power_of(Floats x) {
  const Floats least = all(-127.0f);
  const Power power = power_of_two(x < least ? least : x, 1.0f);  // a NaN stays
  return power.scale + power.scale * power.more;
}

// --- a block ---

struct Block {
  const kd_arguments* a;
  long b, key_head, group, first, rows;  // group: query heads of a key head
  Coded k, v;
};

struct Place {
  long head, t;
};
KD_INLINE Place place_of(const Block& block, long r) {
  const long row = block.first + r, t = row / block.group;
  return {block.key_head * block.group + row - t * block.group, t};
}

KD_INLINE long dim(const Block& block, int index) {
  return block.a->dims[index];
}

static Coded coded_of(const kd_arguments* a, int port, long b, long head, long width) {
  const long *c = a->strides[port], *s = a->strides[port + 1], *o = a->strides[port + 2];
  const long group = a->dims[KD_DIM_group_size];
  return {(const unsigned char*)a->inputs[port] + 4 * (b * c[0] + head * c[1]),
          (const T*)a->inputs[port + 1] + b * s[0] + head * s[1],
          (const T*)a->inputs[port + 2] + b * o[0] + head * o[1],
          4 * c[2],
          s[2],
          o[2],
          width,
          group,
          width / group};
}

static Block open_block(const kd_arguments* a, long index) {
  const long heads = a->dims[KD_DIM_Hk], group = a->dims[KD_DIM_Hq] / heads;
  const long all_rows = group * a->dims[KD_DIM_M], blocks = (all_rows + ROWS - 1) / ROWS;
  const long head = index / blocks, b = head / heads, key_head = head - b * heads;
  const long first = (index - head * blocks) * ROWS;
  const long rows = all_rows - first < ROWS ? all_rows - first : ROWS;
  return {a,
          b,
          key_head,
          group,
          first,
          rows,
          coded_of(a, 1, b, key_head, a->dims[KD_DIM_Dk]),
          coded_of(a, 4, b, key_head, a->dims[KD_DIM_Dv])};
}

// Rows of q as floats, times scale and log2(e), (ROWS, Dk); rows beyond the last repeat it.
static void load_queries(const Block& block, float* q) {
  const long width = dim(block, KD_DIM_Dk);
  const long* strides = block.a->strides[0];
  const float scale = float(block.a->scalars[KD_SCALAR_scale]) * kLog2E;
  for (long r = 0; r < ROWS; ++r) {
    const Place at = place_of(block, r < block.rows ? r : block.rows - 1);
    const T* from = (const T*)block.a->inputs[0] + block.b * strides[0] + at.head * strides[1] +
                    at.t * strides[2];
    for (long i = 0; i < width; ++i) q[r * width + i] = element(from[i]) * scale;
  }
}

// Scores of keys [begin, begin + count), (ROWS, TILE), for kLanes / ROWS keys at once.
template <int kBits>
static void score_tile(const Block& block, const float* q, const float* scales, long begin,
                       long count, float* scores) {
  constexpr int kKeys = kLanes / ROWS;
  const Coded& k = block.k;
  for (long j = 0; j < count; j += kKeys) {
    Floats sums[kLanes] = {};
    const unsigned char* rows[kKeys];
    const float* numbers[kKeys];
    for (int i = 0; i < kKeys; ++i) {
      const long at = j + i < count ? j + i : count - 1;
      rows[i] = k.row(begin + at);
      numbers[i] = scales + at * k.groups * 2;
    }
    for (long g = 0; g < k.groups; ++g) {
      Floats scale[kKeys], bias[kKeys];
      KD_UNROLL
      for (int i = 0; i < kKeys; ++i)
        scale[i] = all(numbers[i][2 * g]), bias[i] = all(numbers[i][2 * g + 1]);
      for (long at = g * k.group; at < (g + 1) * k.group; at += kLanes) {
        Floats rows_of_q[ROWS];
        KD_UNROLL
        for (int r = 0; r < ROWS; ++r) rows_of_q[r] = vector_at(q + r * k.width + at);
        KD_UNROLL
        for (int i = 0; i < kKeys; ++i) {
          const Floats key = codes_at<kBits>(rows[i], at) * scale[i] + bias[i];
          KD_UNROLL
          for (int r = 0; r < ROWS; ++r) sums[r * kKeys + i] += rows_of_q[r] * key;
        }
      }
    }
    const Floats made = sums_of<kLanes / 2>(sums);
    for (int r = 0; r < ROWS; ++r)
      for (int i = 0; i < kKeys; ++i) scores[r * TILE + j + i] = made[r * kKeys + i];
  }
  for (int r = 0; r < ROWS; ++r)
    for (long j = count; j < TILE; ++j) scores[r * TILE + j] = -kInfinity;
}

static void limit(const Block& block, long begin, long count, float* scores) {
  const long s = dim(block, KD_DIM_S), rows = dim(block, KD_DIM_M);
  const long* strides = block.a->strides[7];
  for (long r = 0; r < block.rows; ++r) {
    const Place at = place_of(block, r);
    const long position = s - rows + at.t;
    const unsigned char* mask = nullptr;
    if (dim(block, KD_DIM_has_mask))
      mask = (const unsigned char*)block.a->inputs[7] + block.b * strides[0] +
             at.head * strides[1] + at.t * strides[2];
    for (long j = 0; j < count; ++j) {
      const bool later = dim(block, KD_DIM_causal) && begin + j > position;
      if (later || (mask && !mask[begin + j])) scores[r * TILE + j] = kMasked;
    }
  }
}

// --- sums over values ---

struct Sums {
  float largest[ROWS], powers[ROWS], shrink[ROWS];
};

// Scores become their powers, relative to the largest one so far.
static void take_powers(Sums& sums, float* scores) {
  for (int r = 0; r < ROWS; ++r) {
    float* row = scores + r * TILE;
    Floats most = vector_at(row);
    for (int v = 1; v < kVectors; ++v) {
      const Floats part = vector_at(row + v * kLanes);
      most = part > most ? part : most;
    }
    float largest = sums.largest[r];
    for (int i = 0; i < kLanes; ++i) largest = most[i] > largest ? most[i] : largest;
    const float from = largest == -kInfinity ? 0.0f : largest;
    sums.shrink[r] = power_of(all(sums.largest[r] - from))[0];
    Floats powers = {};
    for (int v = 0; v < kVectors; ++v) {
      const Floats power = power_of(vector_at(row + v * kLanes) - from);
      put_at(row + v * kLanes, power);
      powers += power;
    }
    float sum = 0;
    for (int i = 0; i < kLanes; ++i) sum += powers[i];
    sums.largest[r] = largest;
    sums.powers[r] = sums.powers[r] * sums.shrink[r] + sum;
  }
}

// Adds powers times values to kColumns vectors of each row of `out` (ROWS, Dv).
template <int kBits, int kColumns>
KD_INLINE void add_columns(const Block& block, const float* powers, const Sums& state,
                           const float* scales, long at, long begin, long count, float* out) {
  const Coded& v = block.v;
  Floats sums[ROWS][kColumns];
  KD_UNROLL
  for (int r = 0; r < ROWS; ++r) {
    KD_UNROLL
    for (int c = 0; c < kColumns; ++c)
      sums[r][c] = vector_at(out + r * v.width + at + c * kLanes) * state.shrink[r];
  }
  for (long j = 0; j < count; ++j) {
    const unsigned char* row = v.row(begin + j);
    Floats power[ROWS];
    KD_UNROLL
    for (int r = 0; r < ROWS; ++r) power[r] = all(powers[r * TILE + j]);
    KD_UNROLL
    for (int c = 0; c < kColumns; ++c) {
      const long i = at + c * kLanes;
      const float* numbers = scales + (j * v.groups + i / v.group) * 2;
      const Floats value = codes_at<kBits>(row, i) * numbers[0] + numbers[1];
      KD_UNROLL
      for (int r = 0; r < ROWS; ++r) sums[r][c] += power[r] * value;
    }
  }
  KD_UNROLL
  for (int r = 0; r < ROWS; ++r) {
    KD_UNROLL
    for (int c = 0; c < kColumns; ++c) put_at(out + r * v.width + at + c * kLanes, sums[r][c]);
  }
}

template <int kBits>
static void add_tile(const Block& block, const float* powers, const Sums& state,
                     const float* scales, long begin, long count, float* out) {
  long at = 0;
  const long width = block.v.width;
  for (; at + 4 * kLanes <= width; at += 4 * kLanes)
    add_columns<kBits, 4>(block, powers, state, scales, at, begin, count, out);
  for (; at < width; at += kLanes)
    add_columns<kBits, 1>(block, powers, state, scales, at, begin, count, out);
}

// --- results ---

static void finish_row(const Block& block, long r, float powers, const float* sums) {
  const Place at = place_of(block, r);
  const long width = dim(block, KD_DIM_Dv);
  T* y = (T*)block.a->outputs[0] +
         ((block.b * dim(block, KD_DIM_Hq) + at.head) * dim(block, KD_DIM_M) + at.t) * width;
  for (long i = 0; i < width; i += kStep) {  // widths are multiples of 32
    Step step;
#if KD_DTYPE == 2
    for (int k = 0; k < kLanes; ++k)
      step.part[0][k] = sums[i + 2 * k] / powers, step.part[1][k] = sums[i + 2 * k + 1] / powers;
#else
    step.part[0] = vector_at(sums + i) / powers;
#endif
    store(y + i, step);
  }
}

struct Scratch {
  float *numbers, *sums;
};
KD_INLINE Scratch scratch_of(const kd_arguments* a, long unit) {
  return {(float*)a->scratch[0] + unit * ROWS * 2,
          (float*)a->scratch[1] + unit * ROWS * a->dims[KD_DIM_Dv]};
}

template <int kBits>
static void attend(const kd_arguments* a, long unit) {
  const long parts = a->stage, index = unit / parts, part = unit - index * parts;
  const Block block = open_block(a, index);
  alignas(64) float q[ROWS * kWidest], own[ROWS * kWidest], scores[ROWS * TILE];
  float scales[TILE * kMostGroups * 2];
  load_queries(block, q);
  Scratch out = {nullptr, own};
  if (parts > 1) out = scratch_of(a, unit);
  for (long i = 0; i < ROWS * block.v.width; ++i) out.sums[i] = 0;
  Sums state;
  for (int r = 0; r < ROWS; ++r) state.largest[r] = -kInfinity, state.powers[r] = 0;
  const long s = dim(block, KD_DIM_S), each = ((s + parts - 1) / parts + 15) / 16 * 16;
  const long from = part * each, to = from + each < s ? from + each : s;
  const bool limited = dim(block, KD_DIM_has_mask) || dim(block, KD_DIM_causal);
  for (long j = from; j < to; j += TILE) {
    const long count = to - j < TILE ? to - j : TILE;
    widen_scales(block.k, j, count, scales);
    score_tile<kBits>(block, q, scales, j, count, scores);
    if (limited) limit(block, j, count, scores);
    take_powers(state, scores);
    widen_scales(block.v, j, count, scales);
    add_tile<kBits>(block, scores, state, scales, j, count, out.sums);
  }
  for (long r = 0; r < block.rows; ++r) {
    if (parts > 1)
      out.numbers[2 * r] = state.largest[r], out.numbers[2 * r + 1] = state.powers[r];
    else
      finish_row(block, r, state.powers[r], out.sums + r * block.v.width);
  }
}

extern "C" void mlx_kd_attention_quantized(const kd_arguments* a, long begin, long end) {
  for (long unit = begin; unit < end; ++unit) {
    if (a->dims[KD_DIM_bits] == 8)
      attend<8>(a, unit);
    else
      attend<4>(a, unit);
  }
}

static void merge_row(const Block& block, long index, long r) {
  const long parts = block.a->stage, width = block.v.width;
  float most = -kInfinity, powers = 0;
  for (long p = 0; p < parts; ++p) {
    const float largest = scratch_of(block.a, index * parts + p).numbers[2 * r];
    most = largest > most ? largest : most;
  }
  alignas(64) float sums[kWidest];
  for (long i = 0; i < width; ++i) sums[i] = 0;
  for (long p = 0; p < parts; ++p) {
    const Scratch part = scratch_of(block.a, index * parts + p);
    const float weight = power_of(all(part.numbers[2 * r] - (most == -kInfinity ? 0.0f : most)))[0];
    powers += weight * part.numbers[2 * r + 1];
    for (long i = 0; i < width; ++i) sums[i] += weight * part.sums[r * width + i];
  }
  finish_row(block, r, powers, sums);
}

extern "C" void mlx_kd_attention_quantized_merge(const kd_arguments* a, long begin, long end) {
  for (long index = begin; index < end; ++index) {
    const Block block = open_block(a, index);
    for (long r = 0; r < block.rows; ++r) merge_row(block, index, r);
  }
}
