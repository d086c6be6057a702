// cholesky_solve: A X = B for each matrix of a batch, whose factor is given: A = L L^T or U^T U.
//
// Grid: a group for each matrix in x. Scratch: [L + L^T, B], if it is not in shared memory.
#include "../systems.cu.h"

#ifndef KD_DIM_n
#define KD_DIM_n 1
#define KD_DIM_k 2
#define KD_DIM_upper 3
#endif

extern __shared__ float4 shared[];

KD_INLINE void work_on(const kd_arguments& a, float* w) {
  __shared__ Table table;
  const int n = (int)a.dims[KD_DIM_n], k = (int)a.dims[KD_DIM_k];
  const bool upper = a.dims[KD_DIM_upper] != 0;
  const float* const from = (const float*)a.inputs[0] + (long)blockIdx.x * n * n;
  const int failed = examine(from, n, upper, false, table);
  if (threadIdx.x == 0) ((int*)a.outputs[1])[blockIdx.x] = failed;
  const Matrix work = load(w, n, n, k, (const float*)a.inputs[1] + (long)blockIdx.x * n * k, [&](int i, int j) {
    const bool is_read = upper ? j >= i : j <= i;  // the other triangle is its transpose
    return from[is_read ? (long)i * n + j : (long)j * n + i];
  });
  if (!failed) {
    substitute<true>(work, n, k, false);
    substitute<false>(work, n, k, false);
  }
  store_sides(work, n, k, failed, (float*)a.outputs[0] + (long)blockIdx.x * n * k);
}

extern "C" __global__ void __launch_bounds__(kMostThreads) mlx_kd_cholesky_solve(const __grid_constant__ kd_arguments a) {
  const int n = (int)a.dims[KD_DIM_n];
  const long floats = floats_of(n, n, (int)a.dims[KD_DIM_k]);
  if (is_shared(floats))
    work_on(a, (float*)shared);
  else
    work_on(a, (float*)a.scratch[0] + blockIdx.x * floats);
}
