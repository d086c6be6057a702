// Products with many rows of x: panels of W, decoded once for all rows of x, times tiles of rows.
//
// A panel has kTileColumns rows of W and at most kPanelK of their columns. A tile of kTileRows rows
// of x keeps its sums in registers, and reads of each column of a panel two vectors, and an element
// of x a row. Where the processor has dot products of bfloat16, pairs of columns take the place of
// columns; codes stay exact, and a group's scale and bias come in once it is summed. With products
// of matrices (matrices.cpu.h) tiles and the order of x are others, and panels the same. Elsewhere
// the panel holds w itself as float32.
//
// Macros: those of weights.cpu.h, and
//
//   PANEL  columns of a panel at most
#ifndef PANEL
#define PANEL 2048
#endif
#pragma once
#include "../rows/rows.cpu.h"

constexpr long kTileColumns = 2 * kLanes;
constexpr long kTileRows = KD_MATRICES ? 32 : VEC == 64 ? 12 : VEC == 32 ? 6 : 4;
constexpr long kPanelK = PANEL;
constexpr long kChunkRows =
    (KD_MATRICES ? 16 : 42) * kTileRows;  // of x, whose sums are kept at once

// Codes of half a word of W, which are as far apart as the columns of a pair: 1 where pairs are
// neighbours.
KD_INLINE long pair_distance(const Shape& shape) {
  return shape.format == kAffine && (shape.bits == 2 || shape.bits == 4) ? 16 / shape.bits
         : shape.bits == 4 && shape.format != kDense                     ? 4
                                                                         : 1;
}

// x of a call. Blocks of kTileRows rows, zeros behind the last row: of dot products (pairs, planes,
// kTileRows) pairs of bfloat16, else (k, kTileRows) floats. (Prepared::planes, Prepared::floats)
KD_INLINE long pairs_of(const Shape& shape) {
  return KD_MATRICES ? (shape.k + 31) / 32 * 16 : (shape.k + 15) / 16 * 8;
}
KD_INLINE long block_floats(const Shape& shape) {
  return (takes_dots(shape) ? pairs_of(shape) * kPlanes : shape.k) * kTileRows;
}

#include "tile_parts.cpu.h"

#if KD_DOT
// Which half words of 32 columns stand side by side in a pair.
KD_INLINE Halves pair_order(long distance) {
  Halves order;
  for (int i = 0; i < 32; ++i) {
    const int within = int(i % (2 * distance));
    order[i] = (unsigned short)(i - within + within / 2 + within % 2 * distance);
  }
  return order;
}

// x of kPlanes > 1, or the last columns: element by element.
static void pack_pairs(const Shape& shape, const T* row, long from, long place, float* block) {
  const long distance = pair_distance(shape);
  unsigned short* const halves = (unsigned short*)block;
  for (long j = from; j < shape.k; ++j) {
    const long word = j / (2 * distance), within = j % (2 * distance);
    const long pair = word * distance + within % distance;
    float rest = element(row + j);
    for (long p = 0; p < kPlanes; ++p) {
      const unsigned bits = __builtin_bit_cast(unsigned, rest);
      const unsigned upper = (bits + 0x7fff + (bits >> 16 & 1)) & 0xffff0000u;
      halves[((pair * kPlanes + p) * kTileRows + place) * 2 + within / distance] =
          (unsigned short)(upper >> 16);
      rest -= __builtin_bit_cast(float, upper);
    }
  }
}
#endif

struct Panel {
  Floats values[kPanelK / 2 * 2];   // (pairs, 2) vectors of pairs; of floats (kPanelK / 2, 2)
  Floats scales[2 * kPanelK / 16];  // (groups, 2)
  Floats biases[2 * kPanelK / 16];
};

// Columns that a panel holds.
KD_INLINE long panel_columns(const Shape& shape) {
  return takes_dots(shape) ? kPanelK : kPanelK / 2;
}

#if KD_MATRICES
#include "matrices.cpu.h"
#endif

// Rows of x [first, first + kTileRows) as a block; row_at(row) is where a row is, normalised
// already.
template <class RowAt>
static void pack_block(const Shape& shape, const RowAt& row_at, long first, const Prepared& to) {
#if KD_MATRICES
  return pack_matrices(shape, row_at, first, to);
#endif
  float* const block = to.floats + first / kTileRows * block_floats(shape);
  const bool dots = takes_dots(shape);
  const long rows = shape.m - first < kTileRows ? shape.m - first : kTileRows;
  const long columns = dots ? 2 * kLanes : kLanes;  // of a step
  long whole = shape.k / columns * columns;
#if KD_DOT
  const Halves order = pair_order(pair_distance(shape));
  if (dots && kPlanes > 1) whole = 0;
#endif
  for (long j = 0; j < whole; j += columns) {
    Floats words[kLanes] = {};
    for (long r = 0; r < rows; ++r) {
      const T* const from = row_at(first + r) + j;
#if KD_DOT
      if (dots) {
        words[r] = (Floats)look_up(take<Halves>(from), order);
        continue;
      }
#endif
      words[r] = float_lanes(take<Elements>(from));
    }
    transpose(words);
    for (long i = 0; i < kLanes; ++i)
      __builtin_memcpy(block + (j * kLanes / columns + i) * kTileRows, &words[i],
                       kTileRows * sizeof(float));
  }
  if (whole == shape.k) return;
  const long done = dots ? whole / 2 * kPlanes : whole;
  for (long i = done * kTileRows; i < block_floats(shape); ++i) block[i] = 0;
  for (long r = 0; r < rows; ++r) {
    const T* const row = row_at(first + r);
#if KD_DOT
    if (dots) pack_pairs(shape, row, whole, r, block);
#endif
    for (long j = whole; j < shape.k && !dots; ++j) block[j * kTileRows + r] = element(row + j);
  }
}

// Scales or biases of groups [g, g + count) of kLanes rows, as vectors two apart.
static void put_groups(const Shape& shape, const unsigned char* const (&rows)[kLanes], bool biases,
                       long g, long count, Floats* to) {
  for (long from = 0; from < count; from += kLanes) {
    Floats values[kLanes];
    for (long r = 0; r < kLanes; ++r)
      values[r] = biases
                      ? values_at(rows[r] + (g + from) * long(sizeof(T)), shape.groups - g - from)
                      : scales_at(shape, rows[r], g + from);
    transpose(values);
    for (long i = 0; i < kLanes && from + i < count; ++i) to[2 * (from + i)] = values[i];
  }
}

#if KD_DOT
// 32 columns of a row from `column` on as bfloat16 in order; zeros behind the row's end.
KD_INLINE Halves row_values(const Shape& shape, const Made& made, const unsigned char* codes,
                            const unsigned char* end, long column) {
  const unsigned char* const from = codes + column * shape.bits / 8;
  const long left = end - from;
  if (shape.format == kDense) {
    const long in_row = 2 * (shape.k - column);
    return in_row >= 64 ? take<Halves>(from) : take_some<Halves>(from, in_row > 0 ? in_row : 0);
  }
  if (column >= shape.k) return Halves{};
#if KD_PACKED
  const Halves bytes = left >= 64 ? take<Halves>(from) : take_some<Halves>(from, left);
  if (shape.format == kMxfp8) return unpacked<true>(made.unpacker, bytes);
  if (shape.bits != 8) return unpacked<false>(made.unpacker, bytes);
#endif
  // Codes of 8 bits are exact in bfloat16: the upper half of a float.
  const HalfLine line = left >= 32 ? take<HalfLine>(from) : take_some<HalfLine>(from, left);
  const Uints word = (Uints) __builtin_convertvector(line, Halves);
  const Uints low = (Uints) __builtin_convertvector(word & 0xffff, Floats) >> 16;
  const Uints high = (Uints) __builtin_convertvector(word >> 16, Floats) & 0xffff0000u;
  return (Halves)(low | high);
}

// Pairs of kLanes rows, columns [k, k + count), as vectors two apart.
static void put_pairs(const Shape& shape, const Made& made,
                      const unsigned char* const (&rows)[kLanes], const unsigned char* end, long k,
                      long count, Floats* to) {
  const long distance = pair_distance(shape);
  const long columns = 32 * distance;  // of kLanes words
  for (long c = 0; c < count; c += columns) {
    Floats words[kLanes];
    for (long r = 0; r < kLanes; ++r) {
      const unsigned char* const from = rows[r] + (k + c) * shape.bits / 8;
      if (distance == 1) {
        words[r] = (Floats)row_values(shape, made, rows[r], end, k + c);
      } else {
        const long left = end - from;
        words[r] = left >= 64 ? take<Floats>(from) : take_some<Floats>(from, left > 0 ? left : 0);
      }
    }
    transpose(words);
    const long end_of_pairs = KD_MATRICES ? c + columns : count;
    for (long word = 0; word < kLanes && c + word * 2 * distance < end_of_pairs; ++word) {
      Floats* const pairs = to + 2 * (c / 2 + word * distance);
      if (distance == 1) {
        pairs[0] = words[word];
      } else {
        for (long t = 0; t < distance; ++t)
          pairs[2 * t] = (Floats)look_up(made.tables.low,
                                         (Halves)words[word] >> (unsigned short)(shape.bits * t));
      }
    }
  }
}
#endif

// w of kLanes rows, columns [k, k + count), as vectors two apart.
static void put_floats(const Shape& shape, const Matrix (&rows)[kLanes], long k, long count,
                       Floats* to) {
  for (long r = 0; r < kLanes; ++r) {
    float* const lane = (float*)to + r;
    if (shape.format == kDense) {
      for (long j = 0; j < count; ++j)
        lane[2 * kLanes * j] = element((const T*)rows[r].codes + k + j);
      continue;
    }
    for (long j = 0; j < count; j += shape.group) {
      float codes[kMostGroup];
      const long g = (k + j) / shape.group;
      floats_of(shape, rows[r].codes, k + j, shape.group, codes);
      const float scale = scales_at(shape, rows[r].scales, g)[0];
      const float bias =
          shape.format == kAffine ? values_at(rows[r].biases + g * long(sizeof(T)), 1)[0] : 0.0f;
      for (long i = 0; i < shape.group; ++i) lane[2 * kLanes * (j + i)] = scale * codes[i] + bias;
    }
  }
}

// Columns [k, k + count) of rows [first, first + kTileColumns) of W; those behind `rows` are the
// last.
static void fill_panel(const Shape& shape, [[maybe_unused]] const Made& made, const Matrix& w,
                       long first, long rows, long k, long count, Panel& panel) {
  for (int half = 0; half < 2; ++half) {
    Matrix all[kLanes];
    [[maybe_unused]] const unsigned char *codes[kLanes], *scales[kLanes], *biases[kLanes];
    for (long r = 0; r < kLanes; ++r) {
      const long row = first + half * kLanes + r;
      all[r] = row_of(shape, {w, 0}, row < rows ? row : rows - 1);
      codes[r] = all[r].codes, scales[r] = all[r].scales, biases[r] = all[r].biases;
    }
    if (!takes_dots(shape)) {
      put_floats(shape, all, k, count, panel.values + half);
      continue;
    }
#if KD_DOT
    put_pairs(shape, made, codes, w.end, k, count, panel.values + half);
#endif
    if (shape.format == kDense) continue;
    const long g = k / shape.group, groups = count / shape.group;
    put_groups(shape, scales, false, g, groups, panel.scales + half);
    if (shape.format == kAffine) put_groups(shape, biases, true, g, groups, panel.biases + half);
  }
}

// Adds kRows rows of x times the panel to sums (rows, 2).
template <int kRows>
static void add_tile(const Shape& shape, const Prepared& x, const Panel& panel, long row, long k,
                     long count, Floats* sums) {
  const float* const block = x.floats + row / kTileRows * block_floats(shape) + row % kTileRows;
  if (!takes_dots(shape)) {
    Floats tile[kRows][2];
    for (int i = 0; i < kRows; ++i) tile[i][0] = sums[2 * i], tile[i][1] = sums[2 * i + 1];
    KD_TURNS
    for (long j = 0; j < count; ++j) {
      const Floats a = panel.values[2 * j], b = panel.values[2 * j + 1];
      KD_UNROLL
      for (int i = 0; i < kRows; ++i) {
        const float element = block[(k + j) * kTileRows + i];
        tile[i][0] += a * element, tile[i][1] += b * element;
      }
    }
    for (int i = 0; i < kRows; ++i) sums[2 * i] = tile[i][0], sums[2 * i + 1] = tile[i][1];
    return;
  }
#if KD_DOT
  const long each = shape.format == kDense ? (count + 1) / 2 : shape.group / 2;
  const float* columns = block + k / 2 * kPlanes * kTileRows;
  const Floats* w = panel.values;
  for (long g = 0; g * 2 * each < count; ++g) {
    Floats tile[kRows][2] = {};
    KD_TURNS
    for (long pair = 0; pair < each; ++pair, w += 2) {
      KD_UNROLL
      for (int p = 0; p < kPlanes; ++p, columns += kTileRows) {
        KD_UNROLL
        for (int i = 0; i < kRows; ++i) {
          tile[i][0] = dot_of(tile[i][0], columns + i, w[0]);
          tile[i][1] = dot_of(tile[i][1], columns + i, w[1]);
        }
      }
    }
    if (shape.format == kDense) {
      KD_UNROLL
      for (int i = 0; i < kRows; ++i) sums[2 * i] += tile[i][0], sums[2 * i + 1] += tile[i][1];
      continue;
    }
    const Floats scales[2] = {panel.scales[2 * g], panel.scales[2 * g + 1]};
    KD_UNROLL
    for (int i = 0; i < kRows; ++i) {
      sums[2 * i] += tile[i][0] * scales[0], sums[2 * i + 1] += tile[i][1] * scales[1];
    }
    if (shape.format != kAffine) continue;
    const long group = k / shape.group + g;
    const float* const totals = x.sums + group / kLanes * kLanes * shape.m + group % kLanes;
    KD_UNROLL
    for (int i = 0; i < kRows; ++i) {
      const long at = row + i < shape.m ? row + i : shape.m - 1;
      const float total = totals[at * kLanes];
      sums[2 * i] += panel.biases[2 * g] * total,
          sums[2 * i + 1] += panel.biases[2 * g + 1] * total;
    }
  }
#endif
}

// Rows of x times rows [first, first + kTileColumns) of W, `rows` in all. sink(row of x, column,
// sums) gets kLanes columns.
template <class Sink>
static void panel_product(const Shape& shape, const Prepared& x, const Matrix& w, long first,
                          long rows, const Sink& sink) {
  const Made made = make_for(shape);
  Panel panel;
  Floats sums[kChunkRows * 2];
#if KD_MATRICES
  const TileRegisters registers(pairs_of_step(shape));
#endif
  const long most = panel_columns(shape);
  for (long from = 0; from < shape.m; from += kChunkRows) {
    const long count = shape.m - from < kChunkRows ? shape.m - from : kChunkRows;
    for (long i = 0; i < (count + kTileRows - 1) / kTileRows * kTileRows * 2; ++i)
      sums[i] = Floats{};
    for (long k = 0; k < shape.k; k += most) {
      const long columns = shape.k - k < most ? shape.k - k : most;
      fill_panel(shape, made, w, first, rows, k, columns, panel);
      for (long row = 0; row < count; row += kTileRows) {
        Floats* const to = sums + 2 * row;
#if KD_MATRICES
        add_matrices(shape, x, panel, from + row, k, columns, to);
#else
        if (count - row > kTileRows * 2 / 3)
          add_tile<kTileRows>(shape, x, panel, from + row, k, columns, to);
        else if (count - row > kTileRows / 3)
          add_tile<kTileRows * 2 / 3>(shape, x, panel, from + row, k, columns, to);
        else
          add_tile<kTileRows / 3>(shape, x, panel, from + row, k, columns, to);
#endif
      }
    }
    for (long row = 0; row < count; ++row) {
      sink(from + row, first, sums[2 * row]);
      if (first + kLanes < rows) sink(from + row, first + kLanes, sums[2 * row + 1]);
    }
  }
}
