// lu: P A = L U of each matrix of a batch, with partial pivoting, by a group of threads each (systems.cu.h).
//
// Grid: a group for each matrix in x. Scratch: the matrix, if it is not in shared memory.
#include "../systems.cu.h"

#ifndef KD_DIM_m
#define KD_DIM_m 1
#define KD_DIM_n 2
#endif

extern __shared__ float4 shared[];

KD_INLINE void factor(const kd_arguments& a, float* w) {
  __shared__ Table table;
  __shared__ int spoilt;
  const int m = (int)a.dims[KD_DIM_m], n = (int)a.dims[KD_DIM_n], steps = min(m, n);
  const float* const from = (const float*)a.inputs[0] + (long)blockIdx.x * m * n;
  float* const to = (float*)a.outputs[0] + (long)blockIdx.x * m * n;
  unsigned* const pivots = (unsigned*)a.outputs[1] + (long)blockIdx.x * steps;
  unsigned* const order = (unsigned*)a.outputs[2] + (long)blockIdx.x * m;
  if (threadIdx.x == 0) spoilt = n;
  __syncthreads();
  const Matrix work = load(w, m, n, 0, nullptr, [&](int i, int j) {
    const float x = from[(long)i * n + j];
    if (!is_finite(x)) atomicMin(&spoilt, j);
    return x;
  });
  for (int i = threadIdx.x; i < m; i += blockDim.x) order[i] = (unsigned)i;
  __syncthreads();
  int failed = eliminate<true>(work, m, n, table, [&](int column, int row) {
    if (threadIdx.x != 0) return;
    pivots[column] = (unsigned)row;
    const unsigned kept = order[column];
    order[column] = order[row];
    order[row] = kept;
  });
  if (!failed && spoilt < n) failed = spoilt + 1;
  __syncthreads();
  for (int i = threadIdx.x / 32; i < m; i += blockDim.x / 32)
    for (int j = threadIdx.x % 32; j < n; j += 32)
      to[(long)i * n + j] = failed ? not_a_number() : w[(long)i * work.stride + j];
  for (int i = threadIdx.x; i < m && failed; i += blockDim.x) {
    order[i] = (unsigned)i;
    if (i < steps) pivots[i] = (unsigned)i;
  }
  if (threadIdx.x == 0) ((int*)a.outputs[3])[blockIdx.x] = failed;
}

extern "C" __global__ void __launch_bounds__(kMostThreads) mlx_kd_lu(const __grid_constant__ kd_arguments a) {
  const long floats = floats_of((int)a.dims[KD_DIM_m], (int)a.dims[KD_DIM_n], 0);
  if (is_shared(floats))
    factor(a, (float*)shared);
  else
    factor(a, (float*)a.scratch[0] + blockIdx.x * floats);
}
