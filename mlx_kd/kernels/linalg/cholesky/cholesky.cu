// cholesky: A = L L^T of each matrix of a batch; L, or U = L^T where `upper`.
//
// A group of threads takes one matrix, in float. Panels of 8 columns: every thread factors the block on the diagonal
// in its registers and solves rows below it, which it stores as columns of L^T too; then the rest of the triangle is
// updated in tiles of 4 x 4 (systems.cu.h).
//
// Grid: a group for each matrix in x. A matrix that does not fit into shared memory (large.cu.h): _load, a block of rows
// in y; for each 32 columns _panel, 256 rows in y, and _columns, blocks of columns in y, 256 rows in z; _store, a block
// of rows in y. The block on the diagonal is factored by the stage before the panel.
#ifndef KD_DTYPE
#define KD_DTYPE 0  // 0 float32, 1 float16, 2 bfloat16
#endif

#include "../large.cu.h"
#include "../../common/numbers.cu.h"

#ifndef KD_DIM_n
#define KD_DIM_n 1
#define KD_DIM_upper 2
#endif

struct Diagonal {
  float l[kPanel][kPanel];
  float inverse[kPanel];  // of the diagonal
};

// The block on the diagonal at p; the order of the first leading minor that is not positive, or 0.
KD_INLINE int factor_block(const Matrix& a, int p, int count, Diagonal& block) {
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
KD_INLINE void solve_rows(const Matrix& a, int n, int p, const Diagonal& block) {
  for (int i = p + kPanel + thread_of(); i < n; i += thread_count()) {
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
    Diagonal block;
    if (const int failed = factor_block(a, p, count, block)) return failed;
    __syncthreads();  // all have read the block
    solve_rows(a, n, p, block);
#pragma unroll
    for (int i = 0; i < kPanel; ++i)
#pragma unroll
      for (int j = 0; j <= i; ++j)
        if (threadIdx.y == 0 && threadIdx.x == (i * kPanel + j) % 32 && i < count) {
          a.w[(long)(p + i) * a.stride + p + j] = block.l[i][j];
          a.w[(long)(p + j) * a.stride + p + i] = block.l[i][j];
        }
    __syncthreads();
    update<true>(a, p + kPanel, padded(n), p + kPanel, a.width, p);
    __syncthreads();
  }
  return 0;
}

struct Problem {
  int n;
  bool upper;
  const T* from;
  T* to;
  int* info;
};
KD_INLINE Problem problem_of(const kd_arguments& a) {
  const int n = (int)a.dims[KD_DIM_n];
  const long which = blockIdx.x;
  return {n, a.dims[KD_DIM_upper] != 0, (const T*)a.inputs[0] + which * n * n, (T*)a.outputs[0] + which * n * n,
          (int*)a.outputs[1] + which};
}

// Of the lower triangle.
KD_INLINE float element_of(const Problem& z, int i, int j) {
  return j > i ? 0.0f : widen(z.from[z.upper ? (long)j * z.n + i : (long)i * z.n + j]);
}

KD_KERNEL(mlx_kd_cholesky) {
  const Problem z = problem_of(a);
  const Matrix work = load(in_shared_memory(), z.n, z.n, 0, nullptr, [&](int i, int j) { return element_of(z, i, j); });
  const int failed = factor(work, z.n);
  if (thread_of() == 0) *z.info = failed;
  for (int i = threadIdx.y; i < z.n; i += blockDim.y)
    for (int j = threadIdx.x; j < z.n; j += 32) {
      const bool is_made = z.upper ? j >= i : j <= i;  // L^T is above the diagonal
      z.to[(long)i * z.n + j] = narrow(failed ? not_a_number() : is_made ? work.w[(long)i * work.stride + j] : 0.0f);
    }
}

// ---- a matrix that does not fit into shared memory

constexpr int kRowsOfGroup = 256;

KD_INLINE Large large_of(const kd_arguments& a, const Problem& z) {
  return large_of(a, z.n, z.n, 0);
}

// The block on the diagonal at p by the first warp, a row in each lane.
KD_INLINE void factor_diagonal(const Large& l, int p, int n) {
  if (threadIdx.y != 0) return;
  const int lane = threadIdx.x;
  float x[kBlock];
  int failed = 0;
#pragma unroll
  for (int j = 0; j < kBlock; ++j) x[j] = *at(l, p + lane, p + j);
#pragma unroll
  for (int c = 0; c < kBlock; ++c) {
    const float square = p + c < n ? __shfl_sync(kAll, x[c], c) : 1.0f;
    if (!(square > 0.0f) && !failed) failed = p + c + 1;
    const float root = sqrtf(square);
    x[c] = lane == c ? root : x[c] / root;
#pragma unroll
    for (int j = c + 1; j < kBlock; ++j) x[j] -= x[c] * __shfl_sync(kAll, x[c], j);
  }
#pragma unroll
  for (int j = 0; j < kBlock; ++j)
    if (j <= lane) *at(l, p + lane, p + j) = x[j];
  if (failed && lane == 0) *l.info = failed;
}

KD_KERNEL(mlx_kd_cholesky_load) {
  const Problem z = problem_of(a);
  const Large l = large_of(a, z);
  load_rows(l, z.n, z.n, 0, nullptr, [&](int i, int j) { return element_of(z, i, j); });
  if (blockIdx.y != 0) return;
  __syncthreads();
  factor_diagonal(l, 0, z.n);
}

// Rows below the block on the diagonal, a thread each.
KD_KERNEL(mlx_kd_cholesky_panel) {
  __shared__ alignas(16) Block t;
  const Large l = large_of(a, problem_of(a));
  if (*l.info) return;
  const int p = (int)a.stage, i = p + kBlock + blockIdx.y * kRowsOfGroup + thread_of();
  load_block(t, l, p, p);
  __syncthreads();
  if (i >= l.rows) return;
  float x[kBlock];
#pragma unroll
  for (int c = 0; c < kBlock; c += 4) *(float4*)(x + c) = take(at(l, i, p + c));
#pragma unroll
  for (int c = 0; c < kBlock; ++c) {
    x[c] /= t[c][c];
#pragma unroll
    for (int d = c + 1; d < kBlock; ++d) x[d] -= x[c] * t[d][c];
  }
#pragma unroll
  for (int c = 0; c < kBlock; c += 4) *(float4*)at(l, i, p + c) = *(const float4*)(x + c);
}

// The columns from j on, less the panel's product.
KD_KERNEL(mlx_kd_cholesky_columns) {
  __shared__ alignas(16) Block upper;
  const Problem z = problem_of(a);
  const Large l = large_of(a, z);
  const int p = (int)a.stage, j = p + kBlock + blockIdx.y * kBlock, first = p + kBlock + blockIdx.z * kRowsOfGroup;
  if (*l.info || first + kRowsOfGroup <= j) return;
  for (int r = threadIdx.y; r < kBlock; r += blockDim.y) upper[threadIdx.x][r] = *at(l, j + r, p + threadIdx.x);
  __syncthreads();
  subtract_product<kBlock>(l, max(first, j), min(first + kRowsOfGroup, l.rows), j, l.width, p, upper);
  if (blockIdx.y != 0 || blockIdx.z != 0) return;
  __syncthreads();
  factor_diagonal(l, j, z.n);
}

KD_KERNEL(mlx_kd_cholesky_store) {
  const Problem z = problem_of(a);
  const Large l = large_of(a, z);
  const int failed = *l.info, first = blockIdx.y * kBlock;
  for (int i = first + threadIdx.y; i < min(z.n, first + kBlock); i += blockDim.y)
    for (int j = threadIdx.x; j < z.n; j += 32) {
      const bool is_made = z.upper ? j >= i : j <= i;
      z.to[(long)i * z.n + j] = narrow(failed ? not_a_number() : is_made ? *at(l, max(i, j), min(i, j)) : 0.0f);
    }
  if (blockIdx.y == 0 && thread_of() == 0) *z.info = failed;
}
