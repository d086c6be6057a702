// cholesky: A = L L^T of each matrix of a batch; L, or U = L^T where `upper`.
//
// A group of threads takes one matrix, in float. Panels of 8 columns: every thread factors the block on the diagonal
// in its registers and solves rows below it, which it stores as columns of L^T too; then the rest of the triangle is
// updated in tiles of 4 x 4 (systems.cu.h).
//
// Grid: a group for each matrix in x. Scratch: the matrix, if it is not in shared memory.
#ifndef KD_DTYPE
#define KD_DTYPE 0  // 0 float32, 1 float16, 2 bfloat16
#endif

#include "../systems.cu.h"
#include "../../common/numbers.cu.h"

#ifndef KD_DIM_n
#define KD_DIM_n 1
#define KD_DIM_upper 2
#endif

extern __shared__ float4 shared[];

struct Block {
  float l[kPanel][kPanel];
  float inverse[kPanel];  // of the diagonal
};

// The block on the diagonal at p; the order of the first leading minor that is not positive, or 0.
KD_INLINE int factor_block(const Matrix& a, int p, int count, Block& block) {
#pragma unroll
  for (int i = 0; i < kPanel; ++i)
#pragma unroll
    for (int j = 0; j <= i; ++j) block.l[i][j] = a.w[(long)(p + i) * a.stride + p + j];
#pragma unroll
  for (int c = 0; c < kPanel; ++c) {
    const float square = c < count ? block.l[c][c] : 1.0f;
    if (!(square > 0.0f)) return p + c + 1;
    block.l[c][c] = sqrtf(square);
    block.inverse[c] = 1.0f / block.l[c][c];
#pragma unroll
    for (int i = c + 1; i < kPanel; ++i) block.l[i][c] *= block.inverse[c];
#pragma unroll
    for (int i = c + 1; i < kPanel; ++i)
#pragma unroll
      for (int j = c + 1; j <= i; ++j) block.l[i][j] -= block.l[i][c] * block.l[j][c];
  }
  return 0;
}

// A panel of the rows below its block, of L and of L^T.
KD_INLINE void solve_rows(const Matrix& a, int n, int p, const Block& block) {
  for (int i = p + kPanel + threadIdx.x; i < n; i += blockDim.x) {
    float* const row = a.w + (long)i * a.stride + p;
    float x[kPanel];
#pragma unroll
    for (int c = 0; c < kPanel; ++c) {
      x[c] = row[c];
#pragma unroll
      for (int d = 0; d < c; ++d) x[c] -= x[d] * block.l[c][d];
      x[c] *= block.inverse[c];
    }
#pragma unroll
    for (int c = 0; c < kPanel; ++c) row[c] = x[c], a.w[(long)(p + c) * a.stride + i] = x[c];
  }
}

KD_INLINE int factor(const Matrix& a, int n) {
  for (int p = 0; p < n; p += kPanel) {
    const int count = min(kPanel, n - p);
    Block block;
    if (const int failed = factor_block(a, p, count, block)) return failed;
    __syncthreads();  // all have read the block
    solve_rows(a, n, p, block);
#pragma unroll
    for (int i = 0; i < kPanel; ++i)
#pragma unroll
      for (int j = 0; j <= i; ++j)
        if (threadIdx.x == (i * kPanel + j) % 32 && i < count) {
          a.w[(long)(p + i) * a.stride + p + j] = block.l[i][j];
          a.w[(long)(p + j) * a.stride + p + i] = block.l[i][j];
        }
    __syncthreads();
    update<true>(a, p + kPanel, padded(n), p + kPanel, a.width, p);
    __syncthreads();
  }
  return 0;
}

KD_INLINE void work_on(const kd_arguments& a, float* w) {
  const int n = (int)a.dims[KD_DIM_n];
  const bool upper = a.dims[KD_DIM_upper] != 0;
  const T* const from = (const T*)a.inputs[0] + (long)blockIdx.x * n * n;
  T* const to = (T*)a.outputs[0] + (long)blockIdx.x * n * n;
  const Matrix work = load(w, n, n, 0, nullptr, [&](int i, int j) {
    return j > i ? 0.0f : widen(from[upper ? (long)j * n + i : (long)i * n + j]);
  });
  const int failed = factor(work, n);
  if (threadIdx.x == 0) ((int*)a.outputs[1])[blockIdx.x] = failed;
  for (int i = threadIdx.x / 32; i < n; i += blockDim.x / 32)
    for (int j = threadIdx.x % 32; j < n; j += 32) {
      const bool is_made = upper ? j >= i : j <= i;  // L^T is above the diagonal
      to[(long)i * n + j] = narrow(failed ? not_a_number() : is_made ? w[(long)i * work.stride + j] : 0.0f);
    }
}

extern "C" __global__ void __launch_bounds__(kMostThreads) mlx_kd_cholesky(const __grid_constant__ kd_arguments a) {
  const int n = (int)a.dims[KD_DIM_n];
  const long floats = floats_of(n, n, 0);
  if (is_shared(floats))
    work_on(a, (float*)shared);
  else
    work_on(a, (float*)a.scratch[0] + blockIdx.x * floats);
}
