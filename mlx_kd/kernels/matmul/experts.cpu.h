// What the kernels of products with chosen experts have in common. Inputs: x, ids, then the arrays
// of each matrix, one an expert, then a bias of each. A row of x is prepared by itself; a pair is a
// token and one of its experts.
#pragma once
#define ONE_ROW
#include "../common/kd_arguments.h"
#include "results.cpu.h"

constexpr int kFirst = 2, kPerMatrix = 3;

// Of one row of x.
static Shape shape_of(const kd_arguments* a) {
  return shape_of(1, a->dims[KD_DIM_K], a->dims[KD_DIM_bits], a->dims[KD_DIM_group],
                  a->dims[KD_DIM_mode]);
}

static Prepared prepared_of(const kd_arguments* a, long row) {
  const long planes = (a->dims[KD_DIM_K] + 255) / 256 * 256 * 6;
  const long sums = (shape_of(a).groups + 15) / 16 * 16;
  char* const from = (char*)a->scratch[0] + row * planes;
  return {(unsigned short*)from, (float*)from, (float*)a->scratch[1] + row * sums, nullptr};
}

// Rows [begin, end) of x.
static void prepare_rows(const kd_arguments* a, long begin, long end) {
  const Shape shape = shape_of(a);
  for (long row = begin; row < end; ++row)
    prepare_row(shape, (const T*)a->inputs[0] + row * shape.k, nullptr, 0, 0, prepared_of(a, row));
}

static Matrix matrix_of(const kd_arguments* a, int index, long expert) {
  const void* const* const arrays = a->inputs + kFirst + kPerMatrix * index;
  const Shape shape = shape_of(a);
  const long rows = a->dims[KD_DIM_N];
  const unsigned char* const codes =
      (const unsigned char*)arrays[0] + expert * rows * shape.row_bytes;
  const long scales = expert * rows * shape.scale_bytes;
  return {codes, codes + rows * shape.row_bytes, (const unsigned char*)arrays[1] + scales,
          shape.format == kAffine ? (const unsigned char*)arrays[2] + scales : nullptr};
}

// The biases of an expert's rows, or null.
static const T* bias_of(const kd_arguments* a, int input, long expert) {
  return a->dims[KD_DIM_has_bias] ? (const T*)a->inputs[input] + expert * a->dims[KD_DIM_N]
                                  : nullptr;
}

static void put_nan(T* to, long count) {
#if KD_DTYPE == 0
  for (long i = 0; i < count; ++i) to[i] = __builtin_nanf("");
#else
  for (long i = 0; i < count; ++i) to[i] = KD_DTYPE == 1 ? 0x7e00 : 0x7fc0;
#endif
}

// Results [begin, end) of all pairs, one pair after the other: put(x, expert, first row, row behind
// the last, y of the pair). No expert has an id from E on: its results are NaN, and nothing is
// read.
template <class Put>
static void each_pair(const kd_arguments* a, long begin, long end, const Put& put) {
  const long rows = a->dims[KD_DIM_N], chosen = a->dims[KD_DIM_A];
  const unsigned* const ids = (const unsigned*)a->inputs[1];
  while (begin < end) {
    const long pair = begin / rows, from = begin % rows;
    const long to = rows - from < end - begin ? rows : from + (end - begin);
    T* const y = (T*)a->outputs[0] + pair * rows;
    const unsigned expert = ids[pair];
    if (expert < (unsigned long)a->dims[KD_DIM_E])
      put(prepared_of(a, a->dims[KD_DIM_per_pair] ? pair : pair / chosen), long(expert), from, to,
          y);
    else
      put_nan(y + from, to - from);
    begin += to - from;
  }
}
