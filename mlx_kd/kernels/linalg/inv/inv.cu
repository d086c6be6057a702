// inv: the inverse of each matrix of a batch, by P A = L U with partial pivoting, by a group of threads each
// (systems.cu.h). I is reduced together with A, then U X = I is solved.
//
// Grid: a group for each matrix in x. Scratch: [A, I], if it is not in shared memory.
#include "../systems.cu.h"

#ifndef KD_DIM_n
#define KD_DIM_n 1
#endif

extern __shared__ float4 shared[];

KD_INLINE void invert(const kd_arguments& a, float* w) {
  __shared__ Table table;
  const int n = (int)a.dims[KD_DIM_n];
  const float* const from = (const float*)a.inputs[0] + (long)blockIdx.x * n * n;
  const Matrix work = load(w, n, n, n, nullptr, [&](int i, int j) { return from[(long)i * n + j]; });
  const int failed = eliminate<false>(work, n, n, table, [](int, int) {});
  if (!failed) substitute<false>(work, n, n, false);
  store_sides(work, n, n, failed, (float*)a.outputs[0] + (long)blockIdx.x * n * n);
  if (threadIdx.x == 0) ((int*)a.outputs[1])[blockIdx.x] = failed;
}

extern "C" __global__ void __launch_bounds__(kMostThreads) mlx_kd_inv(const __grid_constant__ kd_arguments a) {
  const int n = (int)a.dims[KD_DIM_n];
  const long floats = floats_of(n, n, n);
  if (is_shared(floats))
    invert(a, (float*)shared);
  else
    invert(a, (float*)a.scratch[0] + blockIdx.x * floats);
}
