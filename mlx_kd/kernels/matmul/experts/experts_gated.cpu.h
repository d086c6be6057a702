// act(x Wg^T (+ bias)) * (x Wu^T (+ bias)) of few tokens; the matrices are the two streams.
#pragma once
#define MOST_ROWS 1
#include "expert_gate.cpu.h"
#include "experts.cpu.h"

// A unit is a row of both matrices of one pair.
static void put_gated_pairs(const kd_arguments* a, long begin, long end) {
  constexpr int bias = kFirst + 2 * kPerMatrix;
  const long activation = a->dims[KD_DIM_activation];
  const auto put = [&](const Prepared& x, long expert, long from, long to, T* y) {
    const T* const biases[2] = {bias_of(a, bias, expert), bias_of(a, bias + 1, expert)};
    const long last[2] = {to - 1, to - 1};
    const auto sink = [&](long, long row, long, Floats products) {
      const long count = to - row < kBatch ? to - row : kBatch;
      const Elements result = gated_batch(products, biases, row, count, activation);
      __builtin_memcpy(y + row, &result, count * sizeof(T));
    };
    two_streams(shape_of(a, 1), x, {matrix_of(a, 0, expert), from}, {matrix_of(a, 1, expert), from},
                to - from, last, sink);
  };
  each_pair(a, begin, end, put);
}
