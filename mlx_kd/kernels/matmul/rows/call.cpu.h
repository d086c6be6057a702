// What the kernels of products have in common: the call's sizes, x prepared in scratch, and rows of
// results. Inputs: x, then the arrays of each matrix, then norm. Macros: those of weights.cpu.h,
// and
//
//   QUANTISED  1: a matrix is w, scales, biases; 0: w alone
#pragma once
#include "../../common/kd_arguments.h"
#include "results.cpu.h"

#if QUANTISED
constexpr int kPerMatrix = 3;
static Shape shape_of(const kd_arguments* a) {
  return shape_of(a->dims[KD_DIM_M], a->dims[KD_DIM_K], a->dims[KD_DIM_bits], a->dims[KD_DIM_group],
                  a->dims[KD_DIM_mode]);
}
static Matrix matrix_of(const kd_arguments* a, int index, long rows) {
  const void* const* const arrays = a->inputs + 1 + kPerMatrix * index;
  const unsigned char* const codes = (const unsigned char*)arrays[0];
  return {codes, codes + rows * shape_of(a).row_bytes, (const unsigned char*)arrays[1],
          (const unsigned char*)arrays[2]};
}
#else
constexpr int kPerMatrix = 1;
static Shape shape_of(const kd_arguments* a) {
  return shape_of(a->dims[KD_DIM_M], a->dims[KD_DIM_K], 8 * sizeof(T), 0, kDense);
}
static Matrix matrix_of(const kd_arguments* a, int index, long rows) {
  const unsigned char* const codes = (const unsigned char*)a->inputs[1 + index];
  return {codes, codes + rows * shape_of(a).row_bytes, nullptr, nullptr};
}
#endif

static Prepared prepared_of(const kd_arguments* a) {
  return {(unsigned short*)a->scratch[0], (float*)a->scratch[0], (float*)a->scratch[1],
          (T*)a->scratch[2]};
}

// Rows [begin, end) of x; `norm` is the index of that input.
[[maybe_unused]] static void prepare(const kd_arguments* a, int norm, long begin, long end) {
  const Shape shape = shape_of(a);
  const T* const weight = a->dims[KD_DIM_has_norm] ? (const T*)a->inputs[norm] : nullptr;
  for (long row = begin; row < end; ++row)
    prepare_row(shape, (const T*)a->inputs[0] + row * shape.k, weight,
                float(a->scalars[KD_SCALAR_eps]), row, prepared_of(a));
}

[[maybe_unused]] static void put_rows(const kd_arguments* a, const Matrix& w, long begin, long end,
                                      const Results& to) {
  put_rows(shape_of(a), prepared_of(a), w, begin, end, to);
}
