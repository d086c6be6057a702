// clang-format off
// gemm: y = x W^T of many rows of x, with a norm before and a bias and a residual after.
//
//   mlx_kd_gemm          any type and size, on ordinary units: a block has 64 x 64 results
//   mlx_kd_gemm_tiles    of 16 bits, on tensor cores (sm_90a)
//   mlx_kd_gemm_norm     before it: x after its norm, in scratch memory 0
//   mlx_kd_gemm_rows     before it: rows of whole 16 bytes, of x in scratch memory 0 and of W in 1
//
// How tensor cores are used: ../../common/wide_tiles.cu.h.
#ifndef KD_DIM_M
#define KD_DIM_M 0
#define KD_DIM_N 1
#define KD_DIM_K 2
#define KD_DIM_has_norm 3
#define KD_DIM_has_bias 4
#define KD_DIM_has_residual 5
#define KD_SCALAR_eps 0
#endif

#include "../../common/kd_arguments.h"
#include "../../common/numbers.cu.h"

enum { kX, kW, kNorm, kBias, kResidual };

// The sum as it is stored: rounded, then with bias and residual.
static __device__ T result_of(const kd_arguments& a, float sum, long row, long column) {
  T y = narrow(sum);
  if (a.dims[KD_DIM_has_bias]) y = narrow(widen(y) + widen(((const T*)a.inputs[kBias])[column]));
  if (a.dims[KD_DIM_has_residual])
    y = narrow(widen(y) + widen(((const T*)a.inputs[kResidual])[row * a.dims[KD_DIM_N] + column]));
  return y;
}

// --- one row after the other ------------------------------------------------------------------

static __device__ float sum_of_block(float sum) {
  __shared__ float of_warps[8];
  for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, step);
  if (threadIdx.x % 32 == 0) of_warps[threadIdx.x / 32] = sum;
  __syncthreads();
  sum = 0;
  for (int i = 0; i < 8; ++i) sum += of_warps[i];
  return sum;
}

// Rows of whole 16 bytes: of 64 numbers.
static __device__ long wide(long columns) {
  return (columns + 63) / 64 * 64;
}

extern "C" __global__ void __launch_bounds__(256) mlx_kd_gemm_norm(const __grid_constant__ kd_arguments a) {
  const long row = blockIdx.x, k = a.dims[KD_DIM_K];
  const T* x = (const T*)a.inputs[kX] + row * k;
  const T* norm = (const T*)a.inputs[kNorm];
  T* to = (T*)a.scratch[0] + row * wide(k);
  float squares = 0;
  for (long i = threadIdx.x; i < k; i += 256) squares += widen(x[i]) * widen(x[i]);
  const float scale = rsqrtf(sum_of_block(squares) / float(k) + float(a.scalars[KD_SCALAR_eps]));
  for (long i = threadIdx.x; i < k; i += 256) to[i] = narrow(widen(narrow(widen(x[i]) * scale)) * widen(norm[i]));
}

// A row of x, or of W in blocks of y = 1.
extern "C" __global__ void __launch_bounds__(256) mlx_kd_gemm_rows(const __grid_constant__ kd_arguments a) {
  const long row = blockIdx.x, k = a.dims[KD_DIM_K];
  if (row >= a.dims[blockIdx.y ? KD_DIM_N : KD_DIM_M]) return;
  const T* from = (const T*)a.inputs[blockIdx.y ? kW : kX] + row * k;
  T* to = (T*)a.scratch[blockIdx.y] + row * wide(k);
  constexpr int kNumbers = 16 / sizeof(T);
  for (long first = threadIdx.x * (long)kNumbers; first < k; first += 256 * kNumbers) {
    alignas(16) T some[kNumbers];
#pragma unroll
    for (int i = 0; i < kNumbers; ++i) some[i] = first + i < k ? from[first + i] : narrow(0);
    *(uint4*)(to + first) = *(const uint4*)some;
  }
}

// --- any size and type ------------------------------------------------------------------------

constexpr int kSide = 64, kDepth = 16;

static __device__ void fill_side(float (&side)[kDepth][kSide + 4], const T* from, long first, long rows, long pitch,
                                 long k, long at) {
  for (int i = threadIdx.x; i < kSide * kDepth; i += 256) {
    const int row = i / kDepth, column = i % kDepth;
    const bool is_there = first + row < rows && at + column < k;
    side[column][row] = is_there ? widen(from[(first + row) * pitch + at + column]) : 0.0f;
  }
}

extern "C" __global__ void __launch_bounds__(256) mlx_kd_gemm(const __grid_constant__ kd_arguments a) {
  __shared__ float left[kDepth][kSide + 4], right[kDepth][kSide + 4];
  const long m = a.dims[KD_DIM_M], n = a.dims[KD_DIM_N], k = a.dims[KD_DIM_K];
  const bool normed = a.dims[KD_DIM_has_norm];
  const T* x = normed ? (const T*)a.scratch[0] : (const T*)a.inputs[kX];
  const long first_row = blockIdx.y * (long)kSide, first_column = blockIdx.x * (long)kSide;
  const int row = threadIdx.x / 16 * 4, column = threadIdx.x % 16 * 4;
  float sums[4][4] = {};
  for (long at = 0; at < k; at += kDepth) {
    fill_side(left, x, first_row, m, normed ? wide(k) : k, k, at);
    fill_side(right, (const T*)a.inputs[kW], first_column, n, k, k, at);
    __syncthreads();
#pragma unroll
    for (int d = 0; d < kDepth; ++d)
#pragma unroll
      for (int i = 0; i < 4; ++i)
#pragma unroll
        for (int j = 0; j < 4; ++j) sums[i][j] = fmaf(left[d][row + i], right[d][column + j], sums[i][j]);
    __syncthreads();
  }
  T* y = (T*)a.outputs[0];
  for (int i = 0; i < 4; ++i)
    for (int j = 0; j < 4; ++j)
      if (first_row + row + i < m && first_column + column + j < n)
        y[(first_row + row + i) * n + first_column + column + j] =
            result_of(a, sums[i][j], first_row + row + i, first_column + column + j);
}

// --- tensor cores -----------------------------------------------------------------------------

static __device__ T result_of(const kd_arguments& a, float sum, long, long row, long column) {
  return result_of(a, sum, row, column);
}
static __device__ bool is_plain(const kd_arguments& a) {
  return !(a.dims[KD_DIM_has_bias] | a.dims[KD_DIM_has_residual]);
}
#define KD_ITEMS(a) 1
#define KD_ROWS_OF_A(a) 0
#define KD_ROWS_OF_B(a) 0

#include "../../common/wide_tiles.cu.h"

#if KD_DTYPE != 0 && defined(__CUDA_ARCH_FEAT_SM90_ALL)
extern "C" __global__ void __launch_bounds__(kTileThreads, 1)
    mlx_kd_gemm_tiles(const __grid_constant__ kd_arguments a, const __grid_constant__ kd_tensor_maps maps) {
  multiply<false, false>(a, maps, 1, [](const Shared&, int, unsigned, unsigned) {});
}
#endif
