// solve: A X = B for each matrix of a batch, by P A = L U with partial pivoting, by a group of threads each
// (systems.cu.h).
//
// Grid: a group for each matrix in x. Scratch: [A, B], if it is not in shared memory.
#include "../systems.cu.h"

#ifndef KD_DIM_n
#define KD_DIM_n 1
#define KD_DIM_k 2
#endif

extern __shared__ float4 shared[];

KD_INLINE void solve(const kd_arguments& a, float* w) {
  __shared__ Table table;
  const int n = (int)a.dims[KD_DIM_n], k = (int)a.dims[KD_DIM_k];
  const float* const from = (const float*)a.inputs[0] + (long)blockIdx.x * n * n;
  const float* const b = (const float*)a.inputs[1] + (long)blockIdx.x * n * k;
  const Matrix work = load(w, n, n, k, b, [&](int i, int j) { return from[(long)i * n + j]; });
  const int failed = eliminate<false>(work, n, n, table, [](int, int) {});
  if (!failed) substitute<false>(work, n, k, false);
  store_sides(work, n, k, failed, (float*)a.outputs[0] + (long)blockIdx.x * n * k);
  if (threadIdx.x == 0) ((int*)a.outputs[1])[blockIdx.x] = failed;
}

extern "C" __global__ void __launch_bounds__(kMostThreads) mlx_kd_solve(const __grid_constant__ kd_arguments a) {
  const int n = (int)a.dims[KD_DIM_n];
  const long floats = floats_of(n, n, (int)a.dims[KD_DIM_k]);
  if (is_shared(floats))
    solve(a, (float*)shared);
  else
    solve(a, (float*)a.scratch[0] + blockIdx.x * floats);
}
