// Blocks of many rows in tile registers (AMX): scores of 32 rows and 32 keys at a time, and their
// share of the sums over values.
//
// Queries are packed once a block, keys and values once a tile for all rows of the block, in pairs
// of bfloat16 as tile registers take them (tile_registers.cpu.h). A power, a float, is the sum of
// three numbers of bfloat16, so that its products are exact; one with an infinity is NaN where a
// number of the three is zero.
#pragma once
#include "../../common/tile_registers.cpu.h"
#include "../../common/transpose.cpu.h"

constexpr long kPanel = 32;             // keys, or columns of v: elements of a vector
constexpr long kKeyPanels = TILE / 32;  // of a tile
constexpr long kGroups = (ROWS + 31) / 32;
constexpr int kNumbers = 3;               // of a power
constexpr long kWidestInMatrices = 1024;  // columns of q and v: what is packed lies on the stack
static_assert(TILE % 32 == 0 && sizeof(Stored) == 64);

#define KD_PAIR(i) i, 32 + i, i + 1, 33 + i, i + 2, 34 + i, i + 3, 35 + i
#define KD_EVERY_OTHER(f) f, f + 2, f + 4, f + 6, f + 8, f + 10, f + 12, f + 14

// Of a block while it goes through its keys. Pairs fill the lanes of vectors; a vector of sums or
// scores has 16 columns or keys of one row.
struct Packed {
  long key_steps, value_panels;  // of 32 columns
  Floats* queries;               // (group of 32 rows, key_steps, 32 rows)
  Floats* keys;                  // (panel, key_steps, 16 pairs of columns, 2)
  Floats* values;                // (value_panels, panel of keys, 16 pairs of keys, 2)
  Floats* sums;                  // (group, value_panels, 32 rows, 2)
  float largest[ROWS];           // score of each row
  Floats powers[ROWS];           // of each row, to be added up
};

// The first of 32 elements, and zeros.
KD_INLINE Stored take_elements(const T* from, long count) {
  Stored result = {};
  if (count >= kPanel)
    __builtin_memcpy(&result, from, sizeof result);
  else
    for (long i = 0; i < count; ++i) result[i] = from[i];
  return result;
}

static void pack_queries(const Block& block, Packed& packed) {
  const long width = dim(block, KD_DIM_Dk), groups = (block.rows + 31) / 32;
  for (long r = 0; r < groups * kMatrixRows; ++r) {
    const T* const from = query_of(block, r < block.rows ? r : 0);
    for (long step = 0; step < packed.key_steps; ++step)
      packed.queries[(r / kMatrixRows * packed.key_steps + step) * kMatrixRows + r % kMatrixRows] =
          r < block.rows ? (Floats)take_elements(from + step * kPanel, width - step * kPanel)
                         : Floats{};
  }
}

// Keys [begin, begin + count), and zeros to the end of their last panel.
static void pack_keys(const Block& block, const Packed& packed, long begin, long count) {
  const long width = dim(block, KD_DIM_Dk);
  for (long first = 0; first < count; first += kLanes) {
    Floats* const panel =
        packed.keys + first / kPanel * packed.key_steps * kPanel + first % kPanel / kLanes;
    for (long step = 0; step < packed.key_steps; ++step) {
      Floats rows[kLanes];
      for (long i = 0; i < kLanes; ++i)
        rows[i] = first + i < count
                      ? (Floats)take_elements(
                            block.k + (begin + first + i) * block.k_stride + step * kPanel,
                            width - step * kPanel)
                      : Floats{};
      transpose(rows);
      for (long i = 0; i < kLanes; ++i) panel[step * kPanel + 2 * i] = rows[i];
    }
  }
  if ((count + kLanes - 1) / kLanes % 2 == 0) return;
  Floats* const half = packed.keys + count / kPanel * packed.key_steps * kPanel + 1;
  for (long i = 0; i < packed.key_steps * kLanes; ++i) half[2 * i] = Floats{};
}

static void pack_values(const Block& block, const Packed& packed, long begin, long count) {
  const long width = dim(block, KD_DIM_Dv), pairs = (count + kPanel - 1) / kPanel * kLanes;
  for (long pair = 0; pair < pairs; ++pair) {
    const T* const from = block.v + (begin + 2 * pair) * block.v_stride;
    for (long panel = 0; panel < packed.value_panels; ++panel) {
      const long column = panel * kPanel;
      const Stored first =
          2 * pair < count ? take_elements(from + column, width - column) : Stored{};
      const Stored second = 2 * pair + 1 < count
                                ? take_elements(from + block.v_stride + column, width - column)
                                : Stored{};
      Floats* const to = packed.values + (panel * kKeyPanels * kLanes + pair) * 2;
      to[0] = (Floats)__builtin_shufflevector(first, second, KD_PAIR(0), KD_PAIR(4), KD_PAIR(8),
                                              KD_PAIR(12));
      to[1] = (Floats)__builtin_shufflevector(first, second, KD_PAIR(16), KD_PAIR(20), KD_PAIR(24),
                                              KD_PAIR(28));
    }
  }
}

// The score of row r and the 16 keys from j on, with its bias and mask; of keys beyond the last
// there is none.
static Floats masked_keys(const Block& block, long r, long j, Floats score) {
  const Place at = place_of(block, r);
  const long left = dim(block, KD_DIM_S) - j < kLanes ? dim(block, KD_DIM_S) - j : kLanes;
  const auto row_of = [&](int port) {
    const long* const strides = block.a->strides[port];
    return block.b * strides[0] + at.head * strides[1] + at.t * strides[2] + j;
  };
  if (dim(block, KD_DIM_has_bias)) {
    T bias[kLanes] = {};
    __builtin_memcpy(bias, (const T*)block.a->inputs[5] + row_of(5), left * sizeof(T));
    for (long i = 0; i < kLanes; ++i)
      score[i] += __builtin_bit_cast(float, unsigned(bias[i]) << 16) * kLog2E;
  }
  if (dim(block, KD_DIM_has_mask)) {
    unsigned char mask[kLanes] = {};
    __builtin_memcpy(mask, (const unsigned char*)block.a->inputs[3] + row_of(3), left);
    for (long i = 0; i < kLanes; ++i) score[i] = mask[i] ? score[i] : kMasked;
  }
  return score;
}

// What limits the scores of a tile.
enum class Limits { none, places, masks };
KD_INLINE Limits limits_of(const Block& block, long begin, long count) {
  if (begin >= block.whole_begin && begin + count <= block.whole_end) return Limits::none;
  return dim(block, KD_DIM_has_mask) || dim(block, KD_DIM_has_bias) ? Limits::masks
                                                                    : Limits::places;
}

// In every lane the largest one; NaN is passed over where another lane is a number.
KD_INLINE Floats largest_lane(Floats x) {
  x = larger(__builtin_shufflevector(x, x, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7),
             x);
  x = larger(__builtin_shufflevector(x, x, 4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11),
             x);
  return largest_of_rows(x);
}

// The sums of row r so far, which a larger score shrinks.
static void shrink_row(Packed& packed, long r, float largest) {
  const float before = packed.largest[r];
  packed.largest[r] = largest;
  if (before == -kInfinity) return;  // they are 0, or NaN
  const Floats by = power_of(all(before - largest));
  packed.powers[r] *= by;
  Floats* row =
      packed.sums + (r / kMatrixRows * packed.value_panels * kMatrixRows + r % kMatrixRows) * 2;
  for (long panel = 0; panel < packed.value_panels; ++panel, row += 2 * kMatrixRows)
    row[0] *= by, row[1] *= by;
}

// Scores (panel, 32 rows, 2) of row r become powers, as numbers (number, panel, 32 rows) of pairs.
KD_INLINE void weigh_row(const Block& block, Packed& packed, long r, long begin, long count,
                         Limits limits, const Floats* scores, Floats* numbers) {
  constexpr Ints kPlaces = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  const float scale = float(block.a->scalars[KD_SCALAR_scale]) * kLog2E;
  const int low = ((const int*)block.low)[4 * r], high = ((const int*)block.high)[4 * r];
  const long in_group = r % kMatrixRows;
  Floats made[2 * kKeyPanels], most = all(-kInfinity);
  KD_UNROLL
  for (long v = 0; v < 2 * kKeyPanels; ++v) {
    const long j = v * kLanes;
    made[v] = all(-kInfinity);
    if (j >= count) continue;
    Floats score = scores[(v / 2 * kMatrixRows + in_group) * 2 + v % 2] * scale;
    if (limits == Limits::masks) score = masked_keys(block, r, begin + j, score);
    if (limits != Limits::none) {
      const Ints keys = kPlaces + int(begin + j);
      score = (keys >= low) & (keys < high) ? score : all(kMasked);
    }
    made[v] = kPlaces < int(count - j) ? score : made[v];
    most = larger(made[v], most);
  }
  const float largest = largest_lane(most)[0];
  if (largest > packed.largest[r]) shrink_row(packed, r, largest);
  const float from = packed.largest[r] == -kInfinity ? 0.0f : packed.largest[r];
  KD_UNROLL
  for (long panel = 0; panel < kKeyPanels; ++panel) {
    if (panel * kPanel >= count) break;
    Floats a = power_of(made[2 * panel] - from), b = power_of(made[2 * panel + 1] - from);
    packed.powers[r] += a + b;
    KD_UNROLL
    for (int number = 0; number < kNumbers; ++number) {
      numbers[(number * kKeyPanels + panel) * kMatrixRows + in_group] =
          (Floats)__builtin_shufflevector((Stored)a, (Stored)b, KD_EVERY_OTHER(1),
                                          KD_EVERY_OTHER(17), KD_EVERY_OTHER(33),
                                          KD_EVERY_OTHER(49));
      a -= (Floats)((Uints)a & 0xffff0000u);
      b -= (Floats)((Uints)b & 0xffff0000u);
    }
  }
}

// The keys [begin, begin + count) for 32 rows, or 16 if not kBoth.
template <bool kBoth>
static void add_keys(const Block& block, Packed& packed, long group, long begin, long count) {
  const long panels = (count + kPanel - 1) / kPanel;
  alignas(64) Floats scores[kKeyPanels * kMatrixRows * 2];
  const Floats* const queries = packed.queries + group * packed.key_steps * kMatrixRows;
  for (long panel = 0; panel < panels; ++panel) {
    zero_sums<kBoth>();
    multiply_steps<kBoth>((const float*)queries, packed.keys + panel * packed.key_steps * kPanel,
                          kPairsOfStep, packed.key_steps);
    store_sums<kBoth>(scores + panel * kMatrixRows * 2);
  }
  const Limits limits = limits_of(block, begin, count);
  const long last = block.rows < (group + 1) * kMatrixRows ? block.rows : (group + 1) * kMatrixRows;
  alignas(64) Floats numbers[kNumbers * kKeyPanels * kMatrixRows];
  for (long r = group * kMatrixRows; r < last; ++r)
    weigh_row(block, packed, r, begin, count, limits, scores, numbers);
  for (long panel = 0; panel < packed.value_panels; ++panel) {
    Floats* const sums = packed.sums + (group * packed.value_panels + panel) * kMatrixRows * 2;
    load_sums<kBoth>(sums);
    for (int number = 0; number < kNumbers; ++number)
      multiply_steps<kBoth>((const float*)(numbers + number * kKeyPanels * kMatrixRows),
                            packed.values + panel * kKeyPanels * kPanel, kPairsOfStep, panels);
    store_sums<kBoth>(sums);
  }
}

// As what follows takes it: in steps of Dv, and with four lanes a row.
static void hand_over(const Block& block, const Packed& packed, Sums& state, Step* to) {
  const long width = dim(block, KD_DIM_Dv), steps = steps_of(width);
  Floats row[2 * kWidestInMatrices / kPanel];
  for (long r = 0; r < block.rows; ++r) {
    const Floats* from =
        packed.sums + (r / kMatrixRows * packed.value_panels * kMatrixRows + r % kMatrixRows) * 2;
    for (long panel = 0; panel < packed.value_panels; ++panel, from += 2 * kMatrixRows)
      row[2 * panel] = from[0], row[2 * panel + 1] = from[1];
    for (long step = 0; step < steps; ++step) {
      Floats both[2];
      __builtin_memcpy(both, (const float*)row + step_begin(step, width), sizeof both);
      to[r * steps + step] = {
          {__builtin_shufflevector(both[0], both[1], KD_EVERY_OTHER(0), KD_EVERY_OTHER(16)),
           __builtin_shufflevector(both[0], both[1], KD_EVERY_OTHER(1), KD_EVERY_OTHER(17))}};
    }
    float powers = 0;
    for (long i = 0; i < kLanes; ++i) powers += packed.powers[r][i];
    for (long lane = 0; lane < 4; ++lane) {
      ((float*)state.largest)[4 * r + lane] = packed.largest[r];
      ((float*)state.powers)[4 * r + lane] = lane == 0 ? powers : 0.0f;
    }
  }
}

// Fewer rows or keys take longer so.
static bool takes_matrices(const Block& block, long keys) {
  return block.rows > 8 && keys >= 48 && dim(block, KD_DIM_Dk) <= kWidestInMatrices &&
         dim(block, KD_DIM_Dv) <= kWidestInMatrices;
}

KD_INLINE Floats* vectors_on_stack(long count) {
  return (Floats*)__builtin_alloca_with_align((unsigned long)count * sizeof(Floats), 512);
}

// Keys [from, to) of all rows; `sums` is written.
static void attend_in_matrices(const Block& block, long from, long to, Sums& state, Step* sums) {
  Packed packed;
  packed.key_steps = (dim(block, KD_DIM_Dk) + kPanel - 1) / kPanel;
  packed.value_panels = (dim(block, KD_DIM_Dv) + kPanel - 1) / kPanel;
  packed.queries = vectors_on_stack(kGroups * packed.key_steps * kMatrixRows);
  packed.keys = vectors_on_stack(kKeyPanels * packed.key_steps * kPanel);
  packed.values = vectors_on_stack(packed.value_panels * kKeyPanels * kPanel);
  packed.sums = vectors_on_stack(kGroups * packed.value_panels * kMatrixRows * 2);
  for (long i = 0; i < kGroups * packed.value_panels * kMatrixRows * 2; ++i)
    packed.sums[i] = Floats{};
  for (long r = 0; r < ROWS; ++r) packed.largest[r] = -kInfinity, packed.powers[r] = all(0.0f);
  pack_queries(block, packed);
  const TileRegisters registers(kPairsOfStep);
  for (long j = from; j < to; j += TILE) {
    const long count = to - j < TILE ? to - j : TILE;
    pack_keys(block, packed, j, count);
    pack_values(block, packed, j, count);
    for (long group = 0; group * kMatrixRows < block.rows; ++group)
      if (block.rows - group * kMatrixRows > kMatrixRows / 2)
        add_keys<true>(block, packed, group, j, count);
      else
        add_keys<false>(block, packed, group, j, count);
  }
  hand_over(block, packed, state, sums);
}
