// Keys and values a tile at a time, with codes as they are: AVX512_VNNI multiplies unsigned bytes
// by signed ones, and adds four products to an integer.
//
// A row of q becomes integers of 24 bits, q = unit n, with n cut into three signed digits of base
// 256: n = d0 + 256 d1 + 65536 d2. So the sum of q code over a group is three exact sums of
// integers, and q k = unit (scale sum of n code + bias sum of n). The sum over values is likewise a
// sum of codes times powers, which for each tile, row and group are scaled and become such
// integers. An integer is off by 2^-24 of the largest of its row at most, as a rounding of float32
// is.
//
// A vector of scores has four rows and four keys, four lanes a row. For them 16 bytes of a key are
// repeated for each row, and shuffles add the lanes of a row.
#pragma once
#include "coded_integers.cpu.h"

// --- scores ---

// Rows of q as digits, (chunk, digit, vector), with their units and, of each group, the sum of n.
// Of codes of 4 bits, chunks have the even and the odd elements of 32 in turn.
struct Queries {
  Codes digits[kWidest / kChunk * 3 * kVectors];
  Floats unit[kVectors], sums[kMostGroups * kVectors];
};

KD_INLINE void put_digits(Queries& q, long chunk, int digit, long r, const unsigned char* from) {
  __builtin_memcpy((char*)&q.digits[(chunk * 3 + digit) * kVectors + r / 4] + r % 4 * 16, from, 16);
}

// 16 digits of each kind, from those of four rows of four.
KD_INLINE void put_sixteen(Codes digits, unsigned char (*to)[32]) {
  const unsigned* quads = (const unsigned*)&digits;
  for (int digit = 0; digit < 3; ++digit)
    for (int i = 0; i < 4; ++i) __builtin_memcpy(to[digit] + 4 * i, quads + 4 * i + digit, 4);
}

template <int kBits>
static void load_row(const Block& block, const T* from, long r, Queries& q) {
  const long width = dim(block, KD_DIM_Dk), group = block.k.group;
  alignas(64) float x[kWidest];
  Ints most = {};
  for (long i = 0; i < width; i += kLanes) {
    const Floats some = sixteen(from + i);
    put_at(x + i, some);
    const Ints bits = magnitude_bits(some);
    most = bits > most ? bits : most;
  }
  int largest = 0;
  for (int i = 0; i < kLanes; ++i) largest = most[i] > largest ? most[i] : largest;
  const Fixed fixed = fixed_for(Ints{} + largest);
  const float by = float(block.a->scalars[KD_SCALAR_scale]) * kLog2E;
  for (int i = 0; i < 4; ++i) q.unit[r / 4][r % 4 * 4 + i] = fixed.unit[0] * by;
  for (long g = 0; g < block.k.groups; ++g) {
    Ints sum = {};
    for (long at = g * group; at < (g + 1) * group; at += 2 * kChunk) {
      unsigned char digits[3][32];
      for (int half = 0; half < 2; ++half) {
        const Floats some = vector_at(x + at + half * kChunk);
        Ints n;
        asm("vcvtps2dq %1, %0" : "=v"(n) : "v"(some * fixed.factor));
        sum += n;
        unsigned char(*const to)[32] = (unsigned char(*)[32])(&digits[0][half * kChunk]);
        put_sixteen(digits_of(some, fixed.factor), to);
      }
      for (int digit = 0; digit < 3; ++digit) {
        unsigned char ordered[32];
        for (int i = 0; i < 32; ++i)
          ordered[i] = digits[digit][kBits == 8 ? i : i % 16 * 2 + i / 16];
        put_digits(q, at / kChunk, digit, r, ordered);
        put_digits(q, at / kChunk + 1, digit, r, ordered + 16);
      }
    }
    int all_of_group = 0;
    for (int i = 0; i < kLanes; ++i) all_of_group += sum[i];
    for (int i = 0; i < 4; ++i) q.sums[g * kVectors + r / 4][r % 4 * 4 + i] = float(all_of_group);
  }
}

template <int kBits>
static void load_queries(const Block& block, Queries& q) {
  const long* strides = block.a->strides[0];
  for (long r = 0; r < ROWS; ++r) {
    const Place at = place_of(block, r < block.rows ? r : block.rows - 1);
    const T* from = (const T*)block.a->inputs[0] + block.b * strides[0] + at.head * strides[1] +
                    at.t * strides[2];
    load_row<kBits>(block, from, r, q);
  }
}

// Four consecutive rows, of which `last` exist; the last of these is repeated for the others.
struct Four {
  const unsigned char* at[4];

  Four(const Coded& coded, long first, long last) {
    const unsigned char* const row = coded.row(first);
    for (long i = 0; i < 4; ++i) at[i] = row + (i < last ? i : last - 1) * coded.code_stride;
  }
  void step(const Coded& coded) {
    for (int i = 0; i < 4; ++i) at[i] += 4 * coded.code_stride;
  }
};

KD_INLINE void fetch_four(const Coded& coded, long first) {
  const unsigned char* row = coded.row(first);
  if (coded.code_stride == coded.bytes) return fetch(row, 4 * coded.bytes);
  for (int i = 0; i < 4; ++i, row += coded.code_stride) fetch(row, coded.bytes);
}

// Adds the products of four keys with two chunks of q, of codes from `at` on.
template <int kBits>
KD_INLINE void add_products(const Codes* q, const unsigned char* const (&rows)[4], long at,
                            Ints (&sums)[3][4]) {
  const Codes* const second = q + 3 * kVectors;
  KD_UNROLL
  for (int i = 0; i < 4; ++i) {
    Codes codes[2];
    if constexpr (kBits == 8) {
      codes[0] = repeated(rows[i] + at), codes[1] = repeated(rows[i] + at + kChunk);
    } else {
      const Codes both = repeated(rows[i] + at / 2);
      codes[0] = both & 15, codes[1] = (Codes)((Uints)both >> 4) & 15;
    }
    KD_UNROLL
    for (int digit = 0; digit < 3; ++digit) {
      sums[digit][i] = dot(sums[digit][i], codes[0], q[digit * kVectors]);
      sums[digit][i] = dot(sums[digit][i], codes[1], second[digit * kVectors]);
    }
  }
}

// Scores (vector, quad) of keys [begin, begin + count); those beyond the last key are -inf.
template <int kBits>
static void score_tile(const Block& block, const Queries& q, const float* scales,
                       const float* biases, long begin, long count, Floats* scores) {
  const Coded& k = block.k;
  Four rows(k, begin, 4);
  for (long j = 0; j < count; j += 4, rows.step(k)) {
    if (j + 4 > count) rows = Four(k, begin + j, count - j);
    if (PREFETCH && j + 4 <= count) fetch_four(block.v, begin + j);
    for (int v = 0; v < kVectors; ++v) {
      Floats score = {};
      for (long g = 0; g < k.groups; ++g) {
        Ints sums[3][4] = {};
        for (long at = g * k.group; at < (g + 1) * k.group; at += 2 * kChunk)
          add_products<kBits>(q.digits + at / kChunk * 3 * kVectors + v, rows.at, at, sums);
        Ints low[4];
        KD_UNROLL
        for (int i = 0; i < 4; ++i) low[i] = (sums[1][i] << 8) + sums[0][i];
        const Floats sum = number_of(sum_quads(low), Ints{}, sum_quads(sums[2]));
        score += sum * (Floats)repeated(scales + g * TILE + j);
        score += q.sums[g * kVectors + v] * (Floats)repeated(biases + g * TILE + j);
      }
      scores[v * kQuads + j / 4] = score * q.unit[v];
    }
  }
  for (int v = 0; v < kVectors; ++v) {
    float* const lanes = (float*)(scores + v * kQuads);
    for (long j = count; j < (count + 3) / 4 * 4; ++j)
      for (int r = 0; r < 4; ++r) lanes[j / 4 * kLanes + 4 * r + j % 4] = -kInfinity;
  }
}

// Whether a row sees all keys of [begin, begin + count).
KD_INLINE bool is_whole(const unsigned char* mask, long count) {
  long j = 0;
  for (; j + 8 <= count; j += 8) {
    unsigned long eight;
    __builtin_memcpy(&eight, mask + j, sizeof eight);
    if (eight != 0x0101010101010101) return false;
  }
  for (; j < count; ++j)
    if (!mask[j]) return false;
  return true;
}

static void limit(const Block& block, long begin, long count, Floats* scores) {
  const long from = block.first_key + begin;
  for (long r = 0; r < block.rows; ++r) {
    const Seen seen = seen_by(block, r);
    const bool in_range = from >= seen.first && from + count <= seen.end;
    if (in_range && (!seen.mask || is_whole(seen.mask + from, count))) continue;
    float* const lanes = (float*)(scores + r / 4 * kQuads) + r % 4 * 4;
    for (long j = 0; j < count; ++j) {
      const long key = from + j;
      if (key < seen.first || key >= seen.end || (seen.mask && !seen.mask[key]))
        lanes[j / 4 * kLanes + j % 4] = hidden_score();
    }
  }
}

// --- sums over values ---

// Four lanes a row: of `powers` all four add up.
struct Sums {
  Floats largest[kVectors], powers[kVectors], shrink[kVectors];
  Floats biases[kMostGroups * kVectors];  // (group, vector): powers times biases, likewise
};

// Scores become their powers, relative to the largest one so far.
static void take_powers(Sums& sums, Floats* scores, long quads) {
  for (int v = 0; v < kVectors; ++v, scores += kQuads) {
    Floats most = sums.largest[v];
    for (long i = 0; i < quads; ++i) most = scores[i] > most ? scores[i] : most;
    most = largest_of_rows(most);
    const Floats from = most == all(-kInfinity) ? all(0.0f) : most;
    const Floats shrink = power_of(sums.largest[v] - from);
    Floats sum = sums.powers[v] * shrink;
    for (long i = 0; i < quads; ++i) {
      scores[i] = power_of(scores[i] - from);
      sum += scores[i];
    }
    sums.largest[v] = most, sums.powers[v] = sum, sums.shrink[v] = shrink;
  }
}

// Powers times scales as digits, (quad, group, vector), and their units, (group, vector).
struct Powers {
  Codes digits[kQuads * kMostGroups * kVectors];
  Floats unit[kMostGroups * kVectors];
};

static void take_digits(const Coded& values, const Floats* scores, const float* scales,
                        const float* biases, long quads, Sums& sums, Powers& powers) {
  for (long g = 0; g < values.groups; ++g)
    for (int v = 0; v < kVectors; ++v) {
      const Floats* const row = scores + v * kQuads;
      const float *scale = scales + g * TILE, *bias = biases + g * TILE;
      const long at = g * kVectors + v;
      Ints most = {};
      Floats sum = sums.biases[at] * sums.shrink[v];
      for (long i = 0; i < quads; ++i) {
        const Ints bits = magnitude_bits(row[i] * (Floats)repeated(scale + 4 * i));
        most = bits > most ? bits : most;
        sum += row[i] * (Floats)repeated(bias + 4 * i);
      }
      sums.biases[at] = sum;
      const Fixed fixed = fixed_for(largest_of_rows(most));
      powers.unit[at] = fixed.unit;
      for (long i = 0; i < quads; ++i)
        powers.digits[i * values.groups * kVectors + at] =
            digits_of(row[i] * (Floats)repeated(scale + 4 * i), fixed.factor);
    }
}

// Adds powers times 32 columns of values from `at` on to R rows, from row r on, of `out`.
template <int kBits, int R>
KD_INLINE void add_columns(const Block& block, const Powers& powers, const Sums& state,
                           const Order& order, long r, long at, long begin, long count,
                           const Ahead* next, float* out) {
  const Coded& v = block.v;
  const long place = at / v.group * kVectors + r / 4, step = v.groups * kVectors;
  const char* digits = (const char*)(powers.digits + place) + r % 4 * 16;
  Ints sums[R][2][3] = {};
  Four rows(v, begin, 4);
  for (long j = 0; j < count; j += 4, digits += step * 64, rows.step(v)) {
    if (j + 4 > count) rows = Four(v, begin + j, count - j);
    if (next && j + 4 <= next->count) fetch_four(next->keys, next->first + j);
    Codes codes[2];
    load_codes<kBits>(rows.at, at, order, codes);
    KD_UNROLL
    for (int row = 0; row < R; ++row) {
      KD_UNROLL
      for (int digit = 0; digit < 3; ++digit) {
        int four;
        __builtin_memcpy(&four, digits + 16 * row + 4 * digit, 4);
        const Codes of_all = (Codes)(Ints{} + four);
        sums[row][0][digit] = dot(sums[row][0][digit], codes[0], of_all);
        sums[row][1][digit] = dot(sums[row][1][digit], codes[1], of_all);
      }
    }
  }
  KD_UNROLL
  for (int row = 0; row < R; ++row) {
    const int lane = (r + row) % 4 * 4;
    const float unit = powers.unit[place][lane], shrink = state.shrink[(r + row) / 4][lane];
    KD_UNROLL
    for (int c = 0; c < 2; ++c) {
      float* const to = out + (r + row) * v.width + at + c * kLanes;
      const Ints(&s)[3] = sums[row][c];
      put_at(to, vector_at(to) * shrink + number_of(s[0], s[1], s[2]) * unit);
    }
  }
}

template <int kBits>
static void add_tile(const Block& block, const Powers& powers, const Sums& state,
                     const Order& order, long begin, long count, const Ahead& ahead, float* out) {
  for (long at = 0; at < block.v.width; at += 32) {
    const Ahead* next = PREFETCH && at == 0 ? &ahead : nullptr;
    long r = 0;
    for (; r + 4 <= block.rows; r += 4, next = nullptr)
      add_columns<kBits, 4>(block, powers, state, order, r, at, begin, count, next, out);
    for (; r < block.rows; ++r, next = nullptr)
      add_columns<kBits, 1>(block, powers, state, order, r, at, begin, count, next, out);
  }
}

// What is made of a tile.
struct Work {
  Powers digits;
  Floats scores[kVectors * kQuads];
  alignas(64) float scales[kMostGroups * TILE], biases[kMostGroups * TILE];
  const Order order = make_order();

  void spread_numbers(const Coded& coded, long begin, long count) {
    spread(coded.scales + begin * coded.scale_stride, coded.scale_stride, coded.groups, count,
           scales);
    spread(coded.biases + begin * coded.bias_stride, coded.bias_stride, coded.groups, count,
           biases);
  }
};

// What a part of the keys comes to so far.
template <int kBits>
struct Tiles {
  Queries q;
  Sums state;

  void open(const Block& block) {
    load_queries<kBits>(block, q);
    for (int v = 0; v < kVectors; ++v)
      state.largest[v] = all(-kInfinity), state.powers[v] = all(0.0f);
    for (long i = 0; i < block.v.groups * kVectors; ++i) state.biases[i] = Floats{};
  }

  // Rows of `out` are of Dv floats.
  void add(Work& work, const Block& block, long begin, long count, const Ahead& ahead, float* out) {
    const long quads = (count + 3) / 4;
    if (PREFETCH) fetch_numbers(block.v, begin, count);
    work.spread_numbers(block.k, begin, count);
    score_tile<kBits>(block, q, work.scales, work.biases, begin, count, work.scores);
    if (has_limits(block, block.first_key + begin + count)) limit(block, begin, count, work.scores);
    take_powers(state, work.scores, quads);
    if (PREFETCH) fetch_numbers(ahead.keys, ahead.first, ahead.count);
    work.spread_numbers(block.v, begin, count);
    take_digits(block.v, work.scores, work.scales, work.biases, quads, state, work.digits);
    add_tile<kBits>(block, work.digits, state, work.order, begin, count, ahead, out);
  }

  // Elements of 4 bits get their order, all get their biases.
  void finish(const Block& block, float* out) {
    const long width = block.v.width;
    for (long r = 0; r < block.rows; ++r)
      for (long at = 0; at < width; at += 32) {
        const long group = at / block.v.group * kVectors + r / 4;
        const float bias = sum_of_rows(state.biases[group])[r % 4 * 4];
        float* const to = out + r * width + at;
        float x[32];
        __builtin_memcpy(x, to, sizeof x);
        for (int i = 0; i < 32; ++i) to[i] = x[kBits == 8 ? i : i % 2 * 16 + i / 2] + bias;
      }
  }
  float largest(long r) const { return state.largest[r / 4][r % 4 * 4]; }
  float powers(long r) const { return sum_of_rows(state.powers[r / 4])[r % 4 * 4]; }
};
