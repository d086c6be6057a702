// act(x Wg^T) * (x Wu^T). The input behind the matrices: norm (K).
#pragma once
#include "call.cpu.h"
#include "gate.cpu.h"

constexpr int kNorm = 1 + 2 * kPerMatrix;

// A unit is a row of both matrices, which are the two streams.
static void put_gated(const kd_arguments* a, long begin, long end) {
  const long columns = a->dims[KD_DIM_N], activation = a->dims[KD_DIM_activation];
  const long last[2] = {end - 1, end - 1};
  T* const y = (T*)a->outputs[0];
  const auto sink = [&](long m, long row, long, Floats sums) {
    const Floats products = rounded_lanes(sums);
    const Elements result = element_lanes(activated(products, activation) * upper_lanes(products));
    const long count = end - row < kBatch ? end - row : kBatch;
    __builtin_memcpy(y + m * columns + row, &result, count * sizeof(T));
  };
  two_streams(shape_of(a), prepared_of(a), {matrix_of(a, 0, columns), begin},
              {matrix_of(a, 1, columns), begin}, end - begin, last, sink);
}
