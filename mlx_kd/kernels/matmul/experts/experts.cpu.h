// Products of few tokens with chosen experts: each pair by itself.
#pragma once
#define MOST_ROWS 1
#include "expert_arrays.cpu.h"

static Prepared prepared_of(const kd_arguments* a, long row) {
  const long planes = (a->dims[KD_DIM_K] + 255) / 256 * 256 * 6;
  const long sums = (shape_of(a, 1).groups + 15) / 16 * 16;
  char* const from = (char*)a->scratch[0] + row * planes;
  return {(unsigned short*)from, (float*)from, (float*)a->scratch[1] + row * sums, nullptr};
}

// Rows [begin, end) of x.
static void prepare_rows(const kd_arguments* a, long begin, long end) {
  const Shape shape = shape_of(a, 1);
  for (long row = begin; row < end; ++row)
    prepare_row(shape, (const T*)a->inputs[0] + row * shape.k, nullptr, 0, 0, prepared_of(a, row));
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
