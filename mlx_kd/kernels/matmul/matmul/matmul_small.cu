// clang-format off
// matmul of many small matrices: y = act(alpha op(a) op(b) + beta c + bias), a result by a thread, on an NVIDIA GPU.
#include "product.cu.h"

extern "C" __global__ void mlx_kd_matmul_small(const __grid_constant__ kd_arguments a) {
  const long m = a.dims[KD_DIM_M], n = a.dims[KD_DIM_N], k = a.dims[KD_DIM_K];
  const long index = blockIdx.x * (long)blockDim.x + threadIdx.x, item = index / (m * n);
  if (item >= a.dims[KD_DIM_batch]) return;
  const int of_item = int(index - item * m * n), row = of_item / int(n), column = of_item % int(n);
  const bool a_by_k = a.dims[KD_DIM_transpose_a] != 0, b_by_k = a.dims[KD_DIM_transpose_b] == 0;
  const long pitch_a = a.strides[0][2], pitch_b = a.strides[1][2];
  const T* left = (const T*)a.inputs[0] + item * a.strides[0][1] + row * (a_by_k ? 1 : pitch_a);
  const T* right = (const T*)a.inputs[1] + item * a.strides[1][1] + column * (b_by_k ? 1 : pitch_b);
  const long step_a = a_by_k ? pitch_a : 1, step_b = b_by_k ? pitch_b : 1;
  float sum = 0;
#pragma unroll 4
  for (long i = 0; i < k; ++i) sum = fmaf(widen(left[i * step_a]), widen(right[i * step_b]), sum);
  ((T*)a.outputs[0])[index] = result_of(a, sum, item, row, column);
}
