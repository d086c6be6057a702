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

// A chunk of row r, as integers.
KD_INLINE void put_chunk(Queries& q, long chunk, long r, Ints n) {
  const Ints fours = (Ints)digits_of(n);  // of each four elements: four of each digit
  const Ints ordered =
      __builtin_shufflevector(fours, fours, 0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  for (int digit = 0; digit < 3; ++digit)
    __builtin_memcpy((char*)&q.digits[(chunk * 3 + digit) * kVectors + r / 4] + r % 4 * 16,
                     (const char*)&ordered + 16 * digit, 16);
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
      Pair two = {vector_at(x + at), vector_at(x + at + kChunk)};
      if (kBits == 4) two = parted(two.even, two.odd);
      const Ints first = integers_of(two.even, fixed.factor);
      const Ints second = integers_of(two.odd, fixed.factor);
      put_chunk(q, at / kChunk, r, first), put_chunk(q, at / kChunk + 1, r, second);
      sum += first + second;
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

// The first of each four rows of a tile.
struct Fours {
  const unsigned char* at[kQuads];
  long whole, count;  // those of four rows; all
  Four rows, last;    // of the whole ones, and of one that is not: its last row is repeated
};

KD_INLINE void find_fours(const Tile& tile, Coded Piece::*which, Fours& fours) {
  fours.count = 0, fours.whole = tile.count / 4;
  long stride = 0;
  for (long i = 0; i < tile.number; ++i) {
    const Piece& piece = tile.pieces[i];
    const Coded& coded = piece.*which;
    stride = coded.code_stride;
    const unsigned char* row = coded.row(piece.first);
    for (long j = 0; j < piece.count; j += 4, row += 4 * stride) fours.at[fours.count++] = row;
  }
  const long rest = tile.count % 4;
  fours.rows = {stride, 2 * stride, 3 * stride};
  fours.last = {rest > 1 ? stride : 0, (rest > 2 ? 2 : rest - 1) * stride, (rest - 1) * stride};
}

// Calls use(i, row, four) for each of the fours.
template <class Use>
KD_INLINE void each_four(const Fours& fours, const Use& use) {
  for (long i = 0; i < fours.count;) {
    const bool whole = i < fours.whole;
    const Four four = whole ? fours.rows : fours.last;
    for (const long end = whole ? fours.whole : fours.count; i < end; ++i)
      use(i, fours.at[i], four);
  }
}

// Adds the products of four keys with two chunks of q, of codes from `at` on.
template <int kBits>
KD_INLINE void add_products(const Codes* q, const unsigned char* row, const Four& four, long at,
                            Ints (&sums)[3][4]) {
  const Codes* const second = q + 3 * kVectors;
  const unsigned char* const rows[4] = {row, row + four.second, row + four.third,
                                        row + four.fourth};
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

KD_INLINE void fetch_four(const unsigned char* row, const Coded& coded) {
  if (coded.code_stride == coded.bytes) return fetch(row, 4 * coded.bytes);
  for (int i = 0; i < 4; ++i, row += coded.code_stride) fetch(row, coded.bytes);
}

// Scores (vector, quad) of keys; those beyond the last key are -inf. Their values are fetched.
template <int kBits>
static __attribute__((noinline)) void score_tile(const Coded k, const Coded v, const Queries& q,
                                                 const float* scales, const float* biases,
                                                 const Fours& keys, const Fours& values, long count,
                                                 Floats* scores) {
  each_four(keys, [&](long i, const unsigned char* row, const Four& four) {
    if (PREFETCH && i < values.whole) fetch_four(values.at[i], v);
    for (int vector = 0; vector < kVectors; ++vector) {
      Floats score = {};
      for (long g = 0; g < k.groups; ++g) {
        Ints sums[3][4] = {};
        for (long at = g * k.group; at < (g + 1) * k.group; at += 2 * kChunk)
          add_products<kBits>(q.digits + at / kChunk * 3 * kVectors + vector, row, four, at, sums);
        Ints low[4];
        KD_UNROLL
        for (int key = 0; key < 4; ++key) low[key] = (sums[1][key] << 8) + sums[0][key];
        const Floats sum = number_of(sum_quads(low), Ints{}, sum_quads(sums[2]));
        score += sum * (Floats)repeated(scales + g * TILE + 4 * i);
        score += q.sums[g * kVectors + vector] * (Floats)repeated(biases + g * TILE + 4 * i);
      }
      scores[vector * kQuads + i] = score * q.unit[vector];
    }
  });
  for (int vector = 0; vector < kVectors; ++vector) {
    float* const lanes = (float*)(scores + vector * kQuads);
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

static void limit(const Block& block, long from, long count, Floats* scores) {
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
            digits_of(integers_of(row[i] * (Floats)repeated(scale + 4 * i), fixed.factor));
    }
}

// Fours of keys that are fetched while values are added: with 32 columns of values so much of each.
struct Ahead {
  const Fours& keys;
  long begin;  // of the share of these columns, in bytes from the first row on
  bool any;
};

static Ahead share_of(const Fours& next, const Coded& k, long at, long bytes) {
  const long from = at / 32 * bytes;
  return {next, from / k.bytes * k.code_stride + from % k.bytes, from < 4 * k.bytes};
}

// Adds powers times 32 columns of values from `at` on to R rows, from row r on, of `out`.
template <int kBits, int R>
static __attribute__((noinline)) void add_columns(const Coded v, const Powers& powers,
                                                  const Sums& state, const Order& order, long r,
                                                  long at, const Fours& values, const Ahead ahead,
                                                  float* out) {
  const long place = at / v.group * kVectors + r / 4, step = v.groups * kVectors;
  const char* digits = (const char*)(powers.digits + place) + r % 4 * 16;
  const long whole = PREFETCH && ahead.any ? ahead.keys.whole : 0;
  Ints sums[R][2][3] = {};
  each_four(values, [&](long i, const unsigned char* first, const Four& four) {
    if (i < whole) fetch(ahead.keys.at[i] + ahead.begin, 16 * kBits);
    Codes codes[2];
    load_codes<kBits>(first + at * kBits / 8, four, order, codes);
    KD_UNROLL
    for (int row = 0; row < R; ++row) {
      KD_UNROLL
      for (int digit = 0; digit < 3; ++digit) {
        int of_four;
        __builtin_memcpy(&of_four, digits + 16 * row + 4 * digit, 4);
        const Codes of_all = (Codes)(Ints{} + of_four);
        sums[row][0][digit] = dot(sums[row][0][digit], codes[0], of_all);
        sums[row][1][digit] = dot(sums[row][1][digit], codes[1], of_all);
      }
    }
    digits += step * 64;
  });
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
                     const Order& order, const Fours& values, const Fours& next, float* out) {
  for (long at = 0; at < block.v.width; at += 32) {
    Ahead ahead = share_of(next, block.k, at, 16 * kBits);
    long r = 0;
    for (; r + 4 <= block.rows; r += 4, ahead.any = false)
      add_columns<kBits, 4>(block.v, powers, state, order, r, at, values, ahead, out);
    for (; r < block.rows; ++r, ahead.any = false)
      add_columns<kBits, 1>(block.v, powers, state, order, r, at, values, ahead, out);
  }
}

// What is made of a tile.
struct Work {
  Powers digits;
  Floats scores[kVectors * kQuads];
  alignas(64) float scales[kMostGroups * TILE], biases[kMostGroups * TILE];
  Fours keys, values, next;
  const Order order = make_order();

  // Those beyond the last key are 0.
  void spread_numbers(const Tile& tile, Coded Piece::*which) {
    long at = 0;
    for (long i = 0; i < tile.number; ++i) {
      const Piece& piece = tile.pieces[i];
      const Coded& coded = piece.*which;
      spread(coded.scales + piece.first * coded.scale_stride, coded.scale_stride, coded.groups,
             piece.count, scales + at);
      spread(coded.biases + piece.first * coded.bias_stride, coded.bias_stride, coded.groups,
             piece.count, biases + at);
      at += piece.count;
    }
    for (; at % 4 != 0; ++at)
      for (long g = 0; g < tile.pieces[0].k.groups || g < tile.pieces[0].v.groups; ++g)
        scales[g * TILE + at] = biases[g * TILE + at] = 0;
  }
};

static void fetch_numbers(const Tile& tile, Coded Piece::*which) {
  for (long i = 0; i < tile.number; ++i)
    fetch_numbers(tile.pieces[i].*which, tile.pieces[i].first, tile.pieces[i].count);
}

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

  // `next` is the tile that is read after this one, if there is one; rows of `out` are of Dv
  // floats.
  void add(Work& work, const Block& block, const Tile& tile, const Tile& next, float* out) {
    const long count = tile.count, quads = (count + 3) / 4;
    find_fours(tile, &Piece::k, work.keys);
    find_fours(tile, &Piece::v, work.values);
    find_fours(next, &Piece::k, work.next);
    if (PREFETCH) fetch_numbers(tile, &Piece::v);
    work.spread_numbers(tile, &Piece::k);
    score_tile<kBits>(block.k, block.v, q, work.scales, work.biases, work.keys, work.values, count,
                      work.scores);
    if (has_limits(block, tile.first_key + count)) limit(block, tile.first_key, count, work.scores);
    take_powers(state, work.scores, quads);
    if (PREFETCH) fetch_numbers(next, &Piece::k);
    work.spread_numbers(tile, &Piece::v);
    take_digits(block.v, work.scores, work.scales, work.biases, quads, state, work.digits);
    add_tile<kBits>(block, work.digits, state, work.order, work.values, work.next, out);
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
