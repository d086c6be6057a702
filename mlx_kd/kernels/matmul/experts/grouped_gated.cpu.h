// act(x Wg^T (+ bias)) * (x Wu^T (+ bias)) of many tokens.
#pragma once
#define MOST_ROWS 4
#include "expert_gate.cpu.h"
#include "grouped.cpu.h"

constexpr int kGateBias = kFirst + 2 * kPerMatrix;

// Both matrices are the two streams.
static void put_streams(const kd_arguments* a, const Expert& expert, long from, long to) {
  const Scattered results = scattered(a, expert, kGateBias);
  const T* const biases[2] = {results.bias, bias_of(a, kGateBias + 1, expert.index)};
  const long last[2] = {to - 1, to - 1};
  const auto sink = [&](long m, long row, long, Floats products) {
    const long count = to - row < kBatch ? to - row : kBatch;
    const Elements result = gated_batch(products, biases, row, count, a->dims[KD_DIM_activation]);
    __builtin_memcpy(results.at(m, row), &result, count * sizeof(T));
  };
  two_streams(expert.shape, expert.x, {matrix_of(a, 0, expert.index), from},
              {matrix_of(a, 1, expert.index), from}, to - from, last, sink);
}

// The gate is kept in y, rounded as it is, until up is there.
static void put_experts(const kd_arguments* a, long begin, long end) {
  const auto put = [&](const Expert& expert, long from, long to) {
    if (expert.is_streamed()) return put_streams(a, expert, from, to);
    const Scattered gate = scattered(a, expert, kGateBias);
    const Scattered up = scattered(a, expert, kGateBias + 1);
    for (; from < to; from += kTileColumns) {
      put_panels(a, expert, 0, from, from + kTileColumns,
                 [&](long m, long row, long count, Floats products) {
                   gate.put(m, row, count, products);
                 });
      put_panels(a, expert, 1, from, from + kTileColumns,
                 [&](long m, long row, long count, Floats products) {
                   const Floats first = float_lanes(take_some<Elements>(gate.at(m, row), count));
                   up.put(m, row, count, products);
                   const Floats second = float_lanes(take_some<Elements>(up.at(m, row), count));
                   const Elements result =
                       element_lanes(gated(first, second, a->dims[KD_DIM_activation]));
                   __builtin_memcpy(up.at(m, row), &result, count * sizeof(T));
                 });
    }
  };
  each_expert(a, begin, end, put);
}
