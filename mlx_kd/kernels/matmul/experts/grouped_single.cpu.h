// x W^T (+ bias) of many tokens.
#pragma once
#include "grouped.cpu.h"

static void put_experts(const kd_arguments* a, long begin, long end) {
  const auto put = [&](const Expert& expert, long from, long to) {
    const Scattered results = scattered(a, expert, kFirst + kPerMatrix);
    if (expert.is_streamed())
      return put_rows(expert.shape, expert.x, matrix_of(a, 0, expert.index), from, to, results);
    put_panels(a, expert, 0, from, to, [&](long m, long row, long count, Floats products) {
      results.put(m, row, count, products);
    });
  };
  each_expert(a, begin, end, put);
}
