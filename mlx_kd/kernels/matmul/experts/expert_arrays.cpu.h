// Arrays of products with chosen experts. Inputs: x, ids, then the arrays of each matrix, one an
// expert, then a bias of each. A pair is a token and one of its experts. Macros: those of
// weights.cpu.h, and
//
//   QUANTISED  1: a matrix is w, scales, biases; 0: w alone
#pragma once
#include "../../common/kd_arguments.h"
#include "../rows/results.cpu.h"

constexpr int kFirst = 2, kPerMatrix = QUANTISED ? 3 : 1;

// Of `m` rows of x.
static Shape shape_of(const kd_arguments* a, long m) {
#if QUANTISED
  return shape_of(m, a->dims[KD_DIM_K], a->dims[KD_DIM_bits], a->dims[KD_DIM_group],
                  a->dims[KD_DIM_mode]);
#else
  return shape_of(m, a->dims[KD_DIM_K], 8 * sizeof(T), 0, kDense);
#endif
}

static Matrix matrix_of(const kd_arguments* a, int index, long expert) {
  const void* const* const arrays = a->inputs + kFirst + kPerMatrix * index;
  const Shape shape = shape_of(a, 1);
  const long rows = a->dims[KD_DIM_N];
  const unsigned char* const codes =
      (const unsigned char*)arrays[0] + expert * rows * shape.row_bytes;
  Matrix matrix = {codes, codes + rows * shape.row_bytes, nullptr, nullptr};
#if QUANTISED
  const long scales = expert * rows * shape.scale_bytes;
  matrix.scales = (const unsigned char*)arrays[1] + scales;
  if (shape.format == kAffine) matrix.biases = (const unsigned char*)arrays[2] + scales;
#endif
  return matrix;
}

// The biases of an expert's rows, or null.
static const T* bias_of(const kd_arguments* a, int input, long expert) {
  return a->dims[KD_DIM_has_bias] ? (const T*)a->inputs[input] + expert * a->dims[KD_DIM_N]
                                  : nullptr;
}
