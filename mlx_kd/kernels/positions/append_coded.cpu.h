// Keys and values of new positions as rows of codes, for CPU kernels that quantise them into a
// cache. It is included below append.cpu.h; the outputs begin with codes, scales and biases of
// keys, then of values.
#pragma once
#include "../common/affine_rows.cpu.h"
#include "append.cpu.h"

// Row `row` of the cache, counted by head: of keys (port 0) or values (port 3).
static CodedRow coded_row(const kd_arguments* a, int port, long width, long row) {
  const long groups = width / a->dims[KD_DIM_group_size];
  return {(unsigned char*)a->outputs[port] + row * (width * a->dims[KD_DIM_bits] / 8),
          (T*)a->outputs[port + 1] + row * groups, (T*)a->outputs[port + 2] + row * groups};
}

// A position's keys and values to row `row` of the first head and those of the others, which are
// `apart` rows from head to head. `turned` has room for the keys.
static void append_coded(const kd_arguments* a, const Tables& tables, const Position& at, long row,
                         long apart, T* turned) {
  const long bits = a->dims[KD_DIM_bits], group = a->dims[KD_DIM_group_size];
  const long width = a->dims[KD_DIM_D], v_width = a->dims[KD_DIM_Dv];
  turn_keys(a, tables, at, turned, width);
  const T* const values = row_at(a, kV, at);
  for (long h = 0; h < a->dims[KD_DIM_Hk]; ++h, row += apart) {
    quantize(turned + h * width, width, group, bits, coded_row(a, 0, width, row));
    quantize(values + h * a->strides[kV][1], v_width, group, bits, coded_row(a, 3, v_width, row));
  }
}
