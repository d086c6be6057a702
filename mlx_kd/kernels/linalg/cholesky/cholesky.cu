// cholesky: A = L L^T of each matrix of a batch; L, or U = L^T where `upper`.
//
// A group of 32 x GROUP_ROWS threads factors one matrix, in float: in shared memory if n is at most
// SHARED, else in scratch memory. Panels of 32 columns: the first warp factors the block on the
// diagonal, a row a lane; each row below it is solved by one thread; the columns right of the panel
// are updated, MANY rows a thread.
//
// Grid: (32, GROUP_ROWS, batch), group: (32, GROUP_ROWS, 1), dynamic shared memory: n * (n | 1)
// floats where n is at most SHARED.
#ifndef KD_DTYPE
#define KD_DTYPE 0  // 0 float32, 1 float16, 2 bfloat16
#endif
#ifndef GROUP_ROWS
#define GROUP_ROWS 8  // warps of a group
#endif
#ifndef MANY
#define MANY 4  // rows that a thread updates together
#endif
#ifndef SHARED
#define SHARED 240  // the most columns of a matrix in shared memory
#endif

#include "../../common/kd_arguments.h"

#ifndef KD_DIM_n
#define KD_DIM_batch 0
#define KD_DIM_n 1
#define KD_DIM_upper 2
#endif

#if KD_DTYPE == 0
typedef float T;
__device__ static float widen(T x) {
  return x;
}
__device__ static T narrow(float x) {
  return x;
}
#elif KD_DTYPE == 1
#include <cuda_fp16.h>
typedef __half T;
__device__ static float widen(T x) {
  return __half2float(x);
}
__device__ static T narrow(float x) {
  return __float2half_rn(x);
}
#else
#include <cuda_bf16.h>
typedef __nv_bfloat16 T;
__device__ static float widen(T x) {
  return __bfloat162float(x);
}
__device__ static T narrow(float x) {
  return __float2bfloat16_rn(x);
}
#endif

constexpr int kPanel = 32;
constexpr int kThreads = 32 * GROUP_ROWS;

// The block on the diagonal at p by one warp; the order of the first leading minor that is not
// positive, or 0.
__device__ static int factor(float* w, int stride, int n, int p) {
  const int lane = threadIdx.x, width = n - p < kPanel ? n - p : kPanel;
  float* const row = w + (p + lane) * stride + p;
  for (int c = 0; c < width; ++c) {
    const float* const pivot = w + (p + c) * stride + p;
    const float square = pivot[c];
    if (!(square > 0)) return p + c + 1;
    const float root = sqrtf(square);
    __syncwarp();
    if (lane >= c && lane < width) row[c] = lane == c ? root : row[c] / root;
    __syncwarp();
    if (lane < width)
      for (int j = c + 1; j <= lane; ++j) row[j] -= row[c] * w[(p + j) * stride + p + c];
    __syncwarp();
  }
  return 0;
}

// The panel's columns of the rows below it.
__device__ static void solve(float* w, int stride, int n, int p) {
  for (int i = p + kPanel + threadIdx.y * 32 + threadIdx.x; i < n; i += kThreads) {
    float x[kPanel];
    float* const row = w + i * stride + p;
#pragma unroll
    for (int c = 0; c < kPanel; ++c) {
      const float* const above = w + (p + c) * stride + p;
      float sum = row[c];
#pragma unroll
      for (int q = 0; q < c; ++q) sum -= x[q] * above[q];
      x[c] = sum / above[c];
    }
#pragma unroll
    for (int c = 0; c < kPanel; ++c) row[c] = x[c];
  }
}

// The lower triangle right of the panel; what is above the diagonal is of no account.
__device__ static void update(float* w, int stride, int n, int p) {
  const int next = p + kPanel;
  for (int i0 = next; i0 < n; i0 += MANY * GROUP_ROWS)
    for (int j = next + threadIdx.x; j < n && j < i0 + MANY * GROUP_ROWS; j += 32) {
      float sum[MANY] = {};
      const float* const column = w + j * stride + p;
      for (int c = 0; c < kPanel; ++c) {
        const float factor = column[c];
#pragma unroll
        for (int k = 0; k < MANY; ++k) {
          const int i = i0 + threadIdx.y + k * GROUP_ROWS;
          if (i < n) sum[k] += w[i * stride + p + c] * factor;
        }
      }
#pragma unroll
      for (int k = 0; k < MANY; ++k) {
        const int i = i0 + threadIdx.y + k * GROUP_ROWS;
        if (i < n && j <= i) w[i * stride + j] -= sum[k];
      }
    }
}

extern "C" __global__ void __launch_bounds__(kThreads)
    mlx_kd_cholesky(const __grid_constant__ kd_arguments a) {
  extern __shared__ float shared[];
  __shared__ int failed;
  const int n = int(a.dims[KD_DIM_n]), thread = threadIdx.y * 32 + threadIdx.x;
  const bool upper = a.dims[KD_DIM_upper] != 0;
  const long at = long(blockIdx.z) * n * n;
  const T* const from = (const T*)a.inputs[0] + at;
  T* const l = (T*)a.outputs[0] + at;
  const int stride = n <= SHARED ? n | 1 : n;
  float* const w = n <= SHARED ? shared : (float*)a.scratch[0] + at;
  if (thread == 0) failed = 0;
  for (int e = thread; e < n * n; e += kThreads) {
    const int i = upper ? e % n : e / n, j = upper ? e / n : e % n;
    if (j <= i) w[i * stride + j] = widen(from[e]);
  }
  __syncthreads();
  for (int p = 0; p < n; p += kPanel) {
    if (threadIdx.y == 0) {
      const int info = factor(w, stride, n, p);
      if (threadIdx.x == 0) failed = info;
    }
    __syncthreads();
    if (failed) break;
    solve(w, stride, n, p);
    __syncthreads();
    update(w, stride, n, p);
    __syncthreads();
  }
  if (thread == 0) ((int*)a.outputs[1])[blockIdx.z] = failed;
  const float nothing = failed ? nanf("") : 0.0f;
  for (int e = thread; e < n * n; e += kThreads) {
    const int i = upper ? e % n : e / n, j = upper ? e / n : e % n;
    l[e] = narrow(failed || j > i ? nothing : w[i * stride + j]);
  }
}
