// clang-format off
// Systems of general matrices, by P A = L U with partial pivoting: solve and inv. An operator says what its problem is,
// problem_of(a), and then KD_SYSTEM_KERNELS.
//
// Grid: a group for each matrix in x. A matrix that does not fit into shared memory (large.cu.h): _load, a block of rows
// in y; for each panel _panel, then _columns, blocks of columns in y; _sides, blocks of right sides in y.
#pragma once
#include "large.cu.h"

struct Problem {
  int n, k;
  const float* b;  // null: I
};

#define KD_SYSTEM_KERNELS(name)                                     \
  KD_KERNEL(name) {                                                 \
    const Problem z = problem_of(a);                                \
    solve_sides(a, z.n, z.k, z.b);                                  \
  }                                                                 \
  KD_KERNEL(name##_load) {                                          \
    const Problem z = problem_of(a);                                \
    load_general(a, z.n, z.k, z.b);                                 \
  }                                                                 \
  KD_KERNEL(name##_panel) {                                         \
    const Problem z = problem_of(a);                                \
    factor_columns<false>(a, large_of(a, z.n, z.n, z.k), z.n, z.n); \
  }                                                                 \
  KD_KERNEL(name##_columns) {                                       \
    const Problem z = problem_of(a);                                \
    reduce_columns(a, large_of(a, z.n, z.n, z.k), z.n, z.n);        \
  }                                                                 \
  KD_KERNEL(name##_sides) {                                         \
    const Problem z = problem_of(a);                                \
    const Large l = large_of(a, z.n, z.n, z.k);                     \
    const int failed = *l.info;                                     \
    if (!failed) substitute_columns<false>(l, z.n, false);          \
    store_columns(a, l, z.n, z.k, failed);                          \
  }
