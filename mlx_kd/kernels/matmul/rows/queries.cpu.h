// Queries, keys and values. Inputs behind the matrices: norm (K), a bias of each.
#pragma once
#include "call.cpu.h"

constexpr int kNorm = 1 + 3 * kPerMatrix, kBias = kNorm + 1;

// A unit is a row of the three matrices, one after the other.
static void put_queries(const kd_arguments* a, long begin, long end) {
  const long counts[3] = {a->dims[KD_DIM_Nq], a->dims[KD_DIM_Nk], a->dims[KD_DIM_Nv]};
  long first = 0;  // of the matrix, among the rows of all three
  for (int i = 0; i < 3; first += counts[i], ++i) {
    const long from = begin > first ? begin - first : 0;
    const long to = end - first < counts[i] ? end - first : counts[i];
    if (from >= to) continue;
    put_rows(a, matrix_of(a, i, counts[i]), from, to,
             {(T*)a->outputs[i], counts[i],
              a->dims[KD_DIM_has_bias] ? (const T*)a->inputs[kBias + i] : nullptr, nullptr});
  }
}
