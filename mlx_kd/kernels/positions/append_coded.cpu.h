// Keys and values of new positions as rows of codes, for CPU kernels that quantise them into a
// cache. It is included below append.cpu.h; the outputs begin with codes, scales and biases of
// keys, then of values.
#pragma once
#include "../common/affine_rows.cpu.h"
#include "append.cpu.h"

template <int kBits>
static void write_rows(const kd_arguments* a, const Position& at, long row, long apart,
                       const T* turned) {
  const long width = a->dims[KD_DIM_D];
  const T* const values = row_at(a, kV, at);
  Groups<kBits> groups(a);
  for (long h = 0; h < a->dims[KD_DIM_Hk]; ++h, row += apart) {
    groups.add(turned + h * width, width, 0, row);
    groups.add(values + h * a->strides[kV][1], a->dims[KD_DIM_Dv], 3, row);
  }
  groups.flush();
}

// A position's keys and values to row `row` of the first head and those of the others, which are
// `apart` rows from head to head. `turned` has room for the keys.
static void append_coded(const kd_arguments* a, const Tables& tables, const Position& at, long row,
                         long apart, T* turned) {
  turn_keys(a, tables, at, turned, a->dims[KD_DIM_D]);
  if (a->dims[KD_DIM_bits] == 8)
    write_rows<8>(a, at, row, apart, turned);
  else
    write_rows<4>(a, at, row, apart, turned);
}
