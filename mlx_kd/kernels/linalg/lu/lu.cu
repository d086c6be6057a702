// lu: P A = L U of each matrix of a batch, with partial pivoting, by a group of threads each (systems.cu.h).
//
// Grid: a group for each matrix in x. A matrix that does not fit into shared memory (large.cu.h): _load, a block of rows
// in y; for each panel _panel, then _columns, blocks of columns in y; _store, a block of rows in y, with the pivots and
// the order of at most kMostOrdered rows in shared memory.
#include "../large.cu.h"

#ifndef KD_DIM_m
#define KD_DIM_m 1
#define KD_DIM_n 2
#endif

constexpr int kMostOrdered = 28800;

struct Results {
  int m, n, steps;
  float* factors;
  unsigned *pivots, *order;
  int* info;
};
KD_INLINE Results results_of(const kd_arguments& a) {
  const int m = (int)a.dims[KD_DIM_m], n = (int)a.dims[KD_DIM_n], steps = min(m, n);
  const long which = blockIdx.x;
  return {m, n, steps, (float*)a.outputs[0] + which * m * n, (unsigned*)a.outputs[1] + which * steps,
          (unsigned*)a.outputs[2] + which * m, (int*)a.outputs[3] + which};
}

KD_INLINE void swap_rows(unsigned* order, int row, int other) {
  const unsigned kept = order[row];
  order[row] = order[other];
  order[other] = kept;
}

KD_KERNEL(mlx_kd_lu) {
  __shared__ Table table;
  __shared__ int spoilt;
  const Results z = results_of(a);
  const float* const from = matrix_of(a, z.m, z.n);
  if (thread_of() == 0) spoilt = z.n;
  __syncthreads();
  const Matrix work = load(in_shared_memory(), z.m, z.n, 0, nullptr, [&](int i, int j) {
    const float x = from[(long)i * z.n + j];
    if (!is_finite(x)) atomicMin(&spoilt, j);
    return x;
  });
  for (int i = thread_of(); i < z.m; i += thread_count()) z.order[i] = (unsigned)i;
  __syncthreads();
  int failed = eliminate<true>(work, z.m, z.n, table, [&](int column, int row) {
    if (thread_of() != 0) return;
    z.pivots[column] = (unsigned)row;
    swap_rows(z.order, column, row);
  });
  if (!failed && spoilt < z.n) failed = spoilt + 1;
  __syncthreads();
  for (int i = threadIdx.y; i < z.m; i += blockDim.y)
    for (int j = threadIdx.x; j < z.n; j += 32)
      z.factors[(long)i * z.n + j] = failed ? not_a_number() : work.w[(long)i * work.stride + j];
  for (int i = thread_of(); i < z.m && failed; i += thread_count()) {
    z.order[i] = (unsigned)i;
    if (i < z.steps) z.pivots[i] = (unsigned)i;
  }
  if (thread_of() == 0) *z.info = failed;
}

// ---- a matrix that does not fit into shared memory

KD_INLINE Large large_of(const kd_arguments& a, const Results& z) {
  return large_of(a, z.m, z.n, 0);
}

KD_KERNEL(mlx_kd_lu_load) {
  const Results z = results_of(a);
  const float* const from = matrix_of(a, z.m, z.n);
  const Large l = large_of(a, z);
  int spoilt = z.n;
  load_rows(l, z.m, z.n, 0, nullptr, [&](int i, int j) {
    const float x = from[(long)i * z.n + j];
    if (!is_finite(x)) spoilt = min(spoilt, j);
    return x;
  });
  note_least(l, spoilt);
}
KD_KERNEL(mlx_kd_lu_panel) {
  const Results z = results_of(a);
  factor_columns<true>(a, large_of(a, z), z.m, z.n);
}
KD_KERNEL(mlx_kd_lu_columns) {
  const Results z = results_of(a);
  reduce_columns(a, large_of(a, z), z.m, z.n);
}

KD_INLINE void store_order(const Results& z, const Large& l, int failed) {
  unsigned* const order = z.m <= kMostOrdered ? (unsigned*)in_shared_memory() : z.order;
  unsigned* const pivots = z.m <= kMostOrdered ? order + z.m : z.pivots;
  for (int i = thread_of(); i < z.m; i += thread_count()) order[i] = (unsigned)i;
  for (int i = thread_of(); i < z.steps; i += thread_count()) pivots[i] = (unsigned)(failed ? i : l.pivots[i]);
  __syncthreads();
  for (int c = 0; c < z.steps && !failed && thread_of() == 0; ++c) swap_rows(order, c, (int)pivots[c]);
  __syncthreads();
  for (int i = thread_of(); i < z.m; i += thread_count()) z.order[i] = order[i];
  for (int i = thread_of(); i < z.steps; i += thread_count()) z.pivots[i] = pivots[i];
}

KD_KERNEL(mlx_kd_lu_store) {
  const Results z = results_of(a);
  const Large l = large_of(a, z);
  const int spoilt = least_found(l), failed = *l.info ? *l.info : spoilt < z.n ? spoilt + 1 : 0;
  const int first = blockIdx.y * kBlock;
  for (int i = first + threadIdx.y; i < min(z.m, first + kBlock); i += blockDim.y)
    for (int j = threadIdx.x; j < z.n; j += 32) z.factors[(long)i * z.n + j] = failed ? not_a_number() : *at(l, i, j);
  if (blockIdx.y != 0) return;
  store_order(z, l, failed);
  if (thread_of() == 0) *z.info = failed;
}
