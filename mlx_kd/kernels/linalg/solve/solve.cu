// solve: A X = B for each matrix of a batch, by P A = L U with partial pivoting, by a group of threads each
// (general.cu.h).
#include "../general.cu.h"

#ifndef KD_DIM_n
#define KD_DIM_n 1
#define KD_DIM_k 2
#endif

KD_INLINE Problem problem_of(const kd_arguments& a) {
  const int n = (int)a.dims[KD_DIM_n];
  const int k = (int)a.dims[KD_DIM_k];
  return {n, k, (const float*)a.inputs[1] + (long)blockIdx.x * n * k};
}

KD_SYSTEM_KERNELS(mlx_kd_solve)
