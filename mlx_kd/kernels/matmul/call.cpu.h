// What the kernels of products have in common: the call's sizes, x prepared in scratch, and rows of
// results. Inputs: x, then the arrays of each matrix, then norm. Macros: those of weights.cpu.h,
// and
//
//   QUANTISED  1: a matrix is w, scales, biases; 0: w alone
#pragma once
#include "../common/kd_arguments.h"
#include "rows.cpu.h"

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
static void prepare(const kd_arguments* a, int norm, long begin, long end) {
  const T* const weight = a->dims[KD_DIM_has_norm] ? (const T*)a->inputs[norm] : nullptr;
  for (long row = begin; row < end; ++row)
    prepare_row(shape_of(a), (const T*)a->inputs[0], weight, float(a->scalars[KD_SCALAR_eps]), row,
                prepared_of(a));
}

// Where rows of one matrix go: y (M, columns), the product rounded, then its sum with the bias,
// then that with the residual, as MLX rounds them.
struct Results {
  T* y;
  long columns;
  const T* bias;      // (columns), or null
  const T* residual;  // (M, columns), or null

  void put(long m, long row, long count, Floats product) const {
    Floats value = rounded_lanes(product);
    if (bias) value = rounded_lanes(value + float_lanes(take_some<Elements>(bias + row, count)));
    if (residual) value += float_lanes(take_some<Elements>(residual + m * columns + row, count));
    const Elements result = element_lanes(value);
    __builtin_memcpy(y + m * columns + row, &result, count * sizeof(T));
  }
};

KD_INLINE Floats upper_lanes(Floats x) {
  Floats result = {};
  for (long i = 0; i < kBatch; ++i) result[i] = x[kBatch + i];
  return result;
}

// Rows [begin, end) of a matrix: its two halves are the two streams.
[[maybe_unused]] static void put_rows(const kd_arguments* a, const Matrix& w, long begin, long end,
                                      const Results& to) {
  const long half = (end - begin + 1) / 2;
  const long last[2] = {begin + half - 1, end - 1};
  const auto sink = [&](long m, long first, long second, Floats sums) {
    const long left[2] = {last[0] + 1 - first, last[1] + 1 - second};
    if (left[0] > 0) to.put(m, first, left[0] < kBatch ? left[0] : kBatch, sums);
    if (left[1] > 0) to.put(m, second, left[1] < kBatch ? left[1] : kBatch, upper_lanes(sums));
  };
  two_streams(shape_of(a), prepared_of(a), {w, begin}, {w, begin + half}, half, last, sink);
}
