// The nearest rows of a float32 matrix to each of some queries, chosen while their distances are in
// registers. Their keys (heaps.cpu.h) are |x|^2 + |q|^2 - 2 q.x or |q - x|^2, or -q.x.
//
// A block of queries passes over rows of the matrix. Many queries take panels of kColumns rows,
// transposed, times tiles of kTile queries whose sums stay in registers; few queries take the rows
// as they are. Each query has a heap of the k best, the worst on top: a key that is not below the
// top is dropped, and only its comparison was paid for. NaN and infinite keys are never below.
//
// Macros: VEC (steps.cpu.h), and
//
//   FEW       queries of a block that take rows as they are, at most; 1 to 4
//   PREFETCH  rows ahead that are fetched where rows are taken as they are
#ifndef FEW
#define FEW 4
#endif
#ifndef PREFETCH
#define PREFETCH 0
#endif
#pragma once
#include "heaps.cpu.h"

constexpr long kColumns = 2 * kLanes;                       // rows of a panel
constexpr long kTile = VEC == 64 ? 12 : VEC == 32 ? 6 : 4;  // queries of a tile
constexpr long kPanelWidth = 256;                           // columns of a panel at most
constexpr long kMostQueries = 252;                          // of a block
constexpr long kPackedFloats = 32768;                       // of a block's queries
constexpr long kGroup = 4;                                  // rows that are taken together

// Queries with their heaps of k keys and rows.
struct Block {
  long count;
  const float* x[kMostQueries];
  float* keys[kMostQueries];
  unsigned* rows[kMostQueries];
};

// Rows [first, end) of a matrix.
struct Rows {
  const float* at;
  long first, end, width;

  const float* row(long i) const { return at + i * width; }
};

// Bit i: lane i is below the limit.
KD_INLINE unsigned lanes_below(Floats x, float limit) {
#if defined(__AVX512F__) && VEC == 64
  return __builtin_ia32_cmpps512_mask(x, Floats{} + limit, 17, 0xffff, 4);
#elif defined(__AVX__) && VEC == 32
  return unsigned(__builtin_ia32_movmskps256((Floats)(x < Floats{} + limit)));
#else
  unsigned mask = 0;
  for (long i = 0; i < kLanes; ++i) mask |= unsigned(x[i] < limit) << i;
  return mask;
#endif
}

// Offers rows [first, first + kLanes) whose lanes are in `mask`, and returns the new limit.
static float offer(unsigned mask, Floats keys, long first, float* heap_keys, unsigned* heap_rows,
                   long k) {
  float lanes[kLanes];
  __builtin_memcpy(lanes, &keys, sizeof keys);
  for (; mask; mask &= mask - 1) {
    const long lane = __builtin_ctz(mask);
    if (lanes[lane] < heap_keys[0])
      sift(heap_keys, heap_rows, k, 0, lanes[lane], unsigned(first + lane));
  }
  return heap_keys[0];
}

// kQueries of a block, from the query `from` on, over rows as they are.
template <bool kInner, int kQueries>
static void scan_rows(const Block& block, long from, const Rows& rows, long k) {
  const long width = rows.width;
  for (long i = rows.first; i < rows.end; i += kGroup) {
    const long count = rows.end - i < kGroup ? rows.end - i : kGroup;
    const float* x[kGroup];
    for (long r = 0; r < kGroup; ++r) x[r] = rows.row(i + (r < count ? r : count - 1));
    Floats sums[kQueries][kGroup] = {};
    long j = 0;
    for (; j + kLanes <= width; j += kLanes) {
      Floats q[kQueries];
      KD_UNROLL
      for (int c = 0; c < kQueries; ++c) q[c] = load(block.x[from + c] + j).part[0];
      KD_UNROLL
      for (long r = 0; r < kGroup; ++r) {
        if constexpr (PREFETCH > 0) __builtin_prefetch(x[r] + PREFETCH * width + j);
        const Floats each = load(x[r] + j).part[0];
        KD_UNROLL
        for (int c = 0; c < kQueries; ++c) sums[c][r] = more<kInner>(sums[c][r], q[c], each);
      }
    }
    if (j < width)
      for (long r = 0; r < kGroup; ++r) {
        const Floats each = load_some(x[r] + j, width - j).part[0];
        for (int c = 0; c < kQueries; ++c)
          sums[c][r] =
              more<kInner>(sums[c][r], load_some(block.x[from + c] + j, width - j).part[0], each);
      }
    for (int c = 0; c < kQueries; ++c) {
      float* const keys = block.keys[from + c];
      for (long r = 0; r < count; ++r) {
        const float key = kInner ? -sum_of(sums[c][r]) : sum_of(sums[c][r]);
        if (key < keys[0]) sift(keys, block.rows[from + c], k, 0, key, unsigned(i + r));
      }
    }
  }
}

template <bool kInner>
static void scan_as_they_are(const Block& block, const Rows& rows, long k) {
  long from = 0;
  for (; from + 4 <= block.count; from += 4) scan_rows<kInner, 4>(block, from, rows, k);
  switch (block.count - from) {
    case 3:
      return scan_rows<kInner, 3>(block, from, rows, k);
    case 2:
      return scan_rows<kInner, 2>(block, from, rows, k);
    case 1:
      return scan_rows<kInner, 1>(block, from, rows, k);
  }
}

#if VEC == 64
#define KD_LANE_NUMBERS 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
#elif VEC == 32
#define KD_LANE_NUMBERS 0, 1, 2, 3, 4, 5, 6, 7
#else
#define KD_LANE_NUMBERS 0, 1, 2, 3
#endif

// Exchanges the blocks of kBy x kBy that are not on the diagonal of two rows kBy apart.
template <int kBy, int... kLane>
KD_INLINE void exchange(Floats& upper, Floats& lower) {
  const Floats x = upper, y = lower;
  upper = __builtin_shufflevector(x, y, (kLane & kBy ? int(kLanes) + kLane - kBy : kLane)...);
  lower = __builtin_shufflevector(x, y, (kLane & kBy ? int(kLanes) + kLane : kLane + kBy)...);
}

template <int kBy>
KD_INLINE void exchange_all(Floats* rows) {
  if constexpr (kBy < kLanes) {
    KD_UNROLL
    for (long i = 0; i < kLanes; ++i)
      if (!(i & kBy)) exchange<kBy, KD_LANE_NUMBERS>(rows[i], rows[i + kBy]);
  }
}

// Row i of the result holds lane i of each.
KD_INLINE void transpose(Floats* rows) {
  exchange_all<1>(rows);
  exchange_all<2>(rows);
  exchange_all<4>(rows);
  exchange_all<8>(rows);
}

struct Panel {
  Floats values[kPanelWidth][2];  // (column, half of the rows)
  Floats norms[2];                // |x|^2 of the columns so far
};

// Columns [from, from + count) of the rows [first, first + kColumns); those behind the end are the
// last.
static void fill_panel(const Rows& rows, long first, long from, long count, Panel& panel) {
  for (int half = 0; half < 2; ++half) {
    Floats norm = {};
    for (long j = 0; j < count; j += kLanes) {
      const long columns = count - j < kLanes ? count - j : kLanes;
      Floats values[kLanes];
      KD_UNROLL
      for (long r = 0; r < kLanes; ++r) {
        const long row = first + half * kLanes + r;
        const float* const x = rows.row(row < rows.end ? row : rows.end - 1) + from + j;
        values[r] = columns == kLanes ? load(x).part[0] : load_some(x, columns).part[0];
      }
      transpose(values);
      for (long c = 0; c < columns; ++c) {
        panel.values[j + c][half] = values[c];
        norm += values[c] * values[c];
      }
    }
    panel.norms[half] = from == 0 ? norm : panel.norms[half] + norm;
  }
}

// Adds q.x of kQueries packed queries and the rows of a panel to sums.
template <int kQueries>
static void add_tile(const float* packed, const Panel& panel, long count, Floats (*sums)[2]) {
  Floats tile[kQueries][2] = {};
  for (long j = 0; j < count; ++j) {
    const Floats a = panel.values[j][0], b = panel.values[j][1];
    KD_UNROLL
    for (int i = 0; i < kQueries; ++i) {
      const float q = packed[j * kTile + i];
      tile[i][0] += a * q, tile[i][1] += b * q;
    }
  }
  for (int i = 0; i < kQueries; ++i) sums[i][0] += tile[i][0], sums[i][1] += tile[i][1];
}

// Queries as tiles (width, kTile); zeros behind the last.
static void pack_queries(const Block& block, long width, float* packed) {
  for (long from = 0; from < block.count; from += kTile, packed += width * kTile)
    for (long i = 0; i < kTile; ++i) {
      const float* const x = from + i < block.count ? block.x[from + i] : nullptr;
      for (long j = 0; j < width; ++j) packed[j * kTile + i] = x ? x[j] : 0.0f;
    }
}

// Lines of the panel from row `first` on, share `part` of `parts`.
KD_INLINE void fetch_panel(const Rows& rows, long first, long part, long parts) {
  const long last = first + kColumns < rows.end ? first + kColumns : rows.end;
  const char* const from = (const char*)rows.row(first);
  const long lines = (last - first) * rows.width * long(sizeof(float)) / 64;
  for (long line = lines * part / parts; line < lines * (part + 1) / parts; ++line)
    __builtin_prefetch(from + line * 64, 0, 2);
}

template <bool kInner>
static void offer_panel(const Block& block, const Panel& panel, const Floats (*sums)[2],
                        const Rows& rows, long first, long k, const float* norms, float* limits) {
  const long left = rows.end - first;
  const unsigned whole = unsigned((1ul << kLanes) - 1);
  const unsigned valid[2] = {left < kLanes ? whole >> (kLanes - left) : whole,
                             left >= kColumns ? whole
                             : left > kLanes  ? whole >> (kColumns - left)
                                              : 0};
  for (long q = 0; q < block.count; ++q)
    for (int half = 0; half < 2; ++half) {
      const Floats keys = kInner ? -sums[q][half]
                                 : (panel.norms[half] + norms[q]) - (sums[q][half] + sums[q][half]);
      const unsigned mask = lanes_below(keys, limits[q]) & valid[half];
      if (mask)
        limits[q] = offer(mask, keys, first + half * kLanes, block.keys[q], block.rows[q], k);
    }
}

template <bool kInner>
static void scan_panels(const Block& block, const Rows& rows, long k) {
  float packed[kPackedFloats];
  Floats sums[kMostQueries][2];
  float norms[kMostQueries], limits[kMostQueries];
  Panel panel;
  const long width = rows.width, tiles = (block.count + kTile - 1) / kTile;
  pack_queries(block, width, packed);
  for (long q = 0; q < block.count; ++q) {
    norms[q] = kInner ? 0.0f : -key_of<true>(block.x[q], block.x[q], width);
    limits[q] = block.keys[q][0];
  }
  for (long first = rows.first; first < rows.end; first += kColumns) {
    for (long q = 0; q < tiles * kTile; ++q) sums[q][0] = sums[q][1] = Floats{};
    for (long from = 0; from < width; from += kPanelWidth) {
      const long count = width - from < kPanelWidth ? width - from : kPanelWidth;
      fill_panel(rows, first, from, count, panel);
      for (long t = 0; t < tiles; ++t) {
        if (from == 0 && first + kColumns < rows.end) fetch_panel(rows, first + kColumns, t, tiles);
        const float* const q = packed + (t * width + from) * kTile;
        const long left = block.count - t * kTile;
        if (left > kTile * 2 / 3)
          add_tile<kTile>(q, panel, count, sums + t * kTile);
        else if (left > kTile / 3)
          add_tile<kTile * 2 / 3>(q, panel, count, sums + t * kTile);
        else
          add_tile<(kTile + 2) / 3>(q, panel, count, sums + t * kTile);
      }
    }
    offer_panel<kInner>(block, panel, sums, rows, first, k, norms, limits);
  }
}

// All queries of the block over all rows. At most kMostQueries queries, and, where there are more
// than FEW, kPackedFloats of them in whole tiles.
template <bool kInner>
[[maybe_unused]] static void scan(const Block& block, const Rows& rows, long k) {
  const long tiles = (block.count + kTile - 1) / kTile;
  if (block.count <= FEW || tiles * kTile * rows.width > kPackedFloats)
    scan_as_they_are<kInner>(block, rows, k);
  else
    scan_panels<kInner>(block, rows, k);
}

// The results of a query from its heaps; L2 distances are computed again, as |q - x|^2, which is
// more exact than |x|^2 - 2 q.x + |q|^2.
template <bool kInner>
[[maybe_unused]] static void merge(const float* q, const float* base, long width, long k,
                                   long heaps, float* keys, unsigned* rows, const Found& found) {
  take_best(k, heaps, keys, rows);
  if constexpr (!kInner) {
    for (long i = 0; i < k; ++i) {
      if (rows[i] == kNone) continue;
      keys[i] = key_of<false>(q, base + long(rows[i]) * width, width);
      if (!(keys[i] < kInfinity)) make_empty(keys + i, rows + i, 1);  // of an infinite query
    }
    for (long i = k / 2 - 1; i >= 0; --i) sift(keys, rows, k, i, keys[i], rows[i]);
  }
  put_found<kInner>(k, keys, rows, found);
}
