// tri_inv: the inverse of each triangular matrix of a batch.
//
// Grid: a group for each matrix in x. Scratch: [T, I], if it is not in shared memory.
#include "../systems.cu.h"

#ifndef KD_DIM_n
#define KD_DIM_n 1
#define KD_DIM_upper 2
#endif

extern __shared__ float4 shared[];

KD_INLINE void work_on(const kd_arguments& a, float* w) {
  __shared__ Table table;
  const int n = (int)a.dims[KD_DIM_n];
  const bool upper = a.dims[KD_DIM_upper] != 0;
  const float* const from = (const float*)a.inputs[0] + (long)blockIdx.x * n * n;
  const int failed = examine(from, n, upper, false, table);
  if (threadIdx.x == 0) ((int*)a.outputs[1])[blockIdx.x] = failed;
  const Matrix work = load(w, n, n, n, nullptr, [&](int i, int j) {
    return (upper ? j >= i : j <= i) ? from[(long)i * n + j] : 0.0f;
  });
  if (!failed && upper) substitute<false>(work, n, n, false);
  if (!failed && !upper) substitute<true>(work, n, n, false);
  store_sides(work, n, n, failed, (float*)a.outputs[0] + (long)blockIdx.x * n * n);
}

extern "C" __global__ void __launch_bounds__(kMostThreads) mlx_kd_tri_inv(const __grid_constant__ kd_arguments a) {
  const int n = (int)a.dims[KD_DIM_n];
  const long floats = floats_of(n, n, n);
  if (is_shared(floats))
    work_on(a, (float*)shared);
  else
    work_on(a, (float*)a.scratch[0] + blockIdx.x * floats);
}
