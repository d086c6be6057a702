// inv: the inverse of each matrix of a batch, by P A = L U with partial pivoting, by a group of threads each
// (general.cu.h). I is reduced together with A, then U X = I is solved.
#include "../general.cu.h"

#ifndef KD_DIM_n
#define KD_DIM_n 1
#endif

KD_INLINE Problem problem_of(const kd_arguments& a) {
  const int n = (int)a.dims[KD_DIM_n];
  return {n, n, nullptr};
}

KD_SYSTEM_KERNELS(mlx_kd_inv)
