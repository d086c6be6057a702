// x W^T (+ bias) of few tokens.
#pragma once
#include "experts.cpu.h"

// A unit is a row of the matrix of one pair.
static void put_products(const kd_arguments* a, long begin, long end) {
  constexpr int bias = kFirst + kPerMatrix;
  const auto put = [&](const Prepared& x, long expert, long from, long to, T* y) {
    const Results results = {y, a->dims[KD_DIM_N], bias_of(a, bias, expert), nullptr};
    put_rows(shape_of(a, 1), x, matrix_of(a, 0, expert), from, to, results);
  };
  each_pair(a, begin, end, put);
}
