// clang-format off
// Larger matrices, by panels of 32 columns in scratch memory: 0 is the matrix, scaled, in rows of a multiple of 32
// floats, with the vectors below the diagonal; 1 is T of each panel, 32 x 32, so that its reflections are
// I - V T V^T; 2 is what was found of each matrix.
#pragma once

constexpr int kWidth = 32, kTile = 64, kChunk = 32;  // columns of a panel, of a tile; rows that are read together

struct Blocked {
  Sizes size;
  long which;
  int line;  // floats of a row
  float *w, *t;
  Found* found;
};

KD_INLINE Blocked blocked_of(const kd_arguments& a, long which) {
  const Sizes size = sizes_of(a);
  const int line = (size.n + kWidth - 1) / kWidth * kWidth, panels = (size.steps + kWidth - 1) / kWidth;
  return {size, which, line, (float*)a.scratch[0] + which * size.m * line,
          (float*)a.scratch[1] + which * panels * kWidth * kWidth, (Found*)a.scratch[2] + which};
}

extern "C" __global__ void __launch_bounds__(512) mlx_kd_qr(const __grid_constant__ kd_arguments a) {
  __shared__ unsigned largest;
  __shared__ int spoilt;
  const Blocked b = blocked_of(a, blockIdx.x);
  const float* const from = (const float*)a.inputs[0] + b.which * b.size.m * b.size.n;
  if (threadIdx.x == 0) largest = 0, spoilt = b.size.n;
  __syncthreads();
  unsigned most = 0;
  for (long e = threadIdx.x; e < (long)b.size.m * b.size.n; e += blockDim.x) {
    const unsigned size = __float_as_uint(from[e]) & 0x7fffffffu;
    if (size >= 0x7f800000u)
      atomicMin(&spoilt, (int)(e % b.size.n));
    else
      most = max(most, size);
  }
  atomicMax(&largest, most);
  __syncthreads();
  if (threadIdx.x != 0) return;
  *b.found = {largest, spoilt};
  ((int*)a.outputs[2])[b.which] = spoilt < b.size.n ? spoilt + 1 : 0;
}

extern "C" __global__ void __launch_bounds__(256) mlx_kd_qr_copy(const __grid_constant__ kd_arguments a) {
  const Blocked b = blocked_of(a, blockIdx.x);
  const float* const from = (const float*)a.inputs[0] + b.which * b.size.m * b.size.n;
  const float scale = scale_of(b.found->largest).to;
  const int i = blockIdx.y * 8 + threadIdx.x / 32;
  for (int j = threadIdx.x % 32; j < b.line && i < b.size.m; j += 32)
    b.w[(long)i * b.line + j] = j < b.size.n ? from[(long)i * b.size.n + j] * scale : 0.0f;
}

// A panel: a lane has a column, a warp has rows. Vectors below the diagonal, and T.
KD_INLINE void factor_panel(const Blocked& b, int first, float* t, float (*part)[16][33], float (*z)[33], float* taus) {
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
  const int count = min(kWidth, b.size.steps - first);
  float* const panel = b.w + (long)first * b.line + first + lane;
  const int rows = b.size.m - first;
  float sum = 0.0f;
  for (int i = 1 + warp; i < rows; i += warps) {
    const float x = panel[(long)i * b.line];
    sum += __shfl_sync(kAll, x, 0) * x;
  }
  part[0][warp][lane] = sum;
  __syncthreads();
  for (int c = 0; c < count; ++c) {
    sum = 0.0f;
    for (int other = 0; other < warps; ++other) sum += part[c & 1][other][lane];
    float* const top = panel + (long)c * b.line;
    const float x = *top;
    const Reflection made = reflection_of(__shfl_sync(kAll, x, c), __shfl_sync(kAll, sum, c));
    const float factor = lane > c ? made.tau * (x + sum * made.inverse) : 0.0f;
    if (warp == 0) {
      z[c][lane] = lane < c ? x + sum * made.inverse : 0.0f;
      if (lane == c) taus[c] = made.tau;
    }
    __syncthreads();  // all have read row c
    if (warp == 0) *top = lane == c ? made.beta : x - factor;
    sum = 0.0f;
    for (int i = c + 1 + warp; i < rows; i += warps) {
      float* const at = panel + (long)i * b.line;
      float y = *at;
      const float v = __shfl_sync(kAll, y, c) * made.inverse;
      y = lane == c ? v : y - v * factor;
      *at = y;
      if (i > c + 1 && c + 1 < kWidth) sum += __shfl_sync(kAll, y, (c + 1) & 31) * y;
    }
    part[(c + 1) & 1][warp][lane] = sum;
    __syncthreads();
  }
  if (warp != 0) return;
  for (int c = 0; c < kWidth; ++c) {  // T's column c is -tau_c T z_c above the diagonal
    float value = 0.0f;
    for (int e = 0; e < c && c < count; ++e) value += lane <= e ? t[lane * kWidth + e] * z[c][e] : 0.0f;
    t[lane * kWidth + c] = c >= count || lane > c ? 0.0f : lane == c ? taus[c] : -taus[c] * value;
    __syncwarp();
  }
}

extern "C" __global__ void __launch_bounds__(512) mlx_kd_qr_panel(const __grid_constant__ kd_arguments a) {
  __shared__ float part[2][16][33], z[kWidth][33], taus[kWidth];
  const Blocked b = blocked_of(a, blockIdx.x);
  const int first = (int)a.stage;
  if (b.found->spoilt >= b.size.n) factor_panel(b, first, b.t + (long)first * kWidth, part, z, taus);
}

// Columns [0, columns) of x, rows of `line` floats from row `first` on, reflected by a panel: x -= V T' V^T x, with
// T' = T^T, or T. 256 threads; thread (y, x) has rows 2 y, 2 y + 1 of V^T x and columns 4 x to 4 x + 3.
struct Shelf {
  float v[kChunk][kWidth + 4];
  float x[kChunk][kTile + 4];
  float y[kWidth][kTile + 4];
  float t[kWidth][kWidth + 4];
};

KD_INLINE void read_chunk(const Blocked& b, int first, int i0, Shelf& s) {
  for (int e = threadIdx.x; e < kChunk * kWidth; e += blockDim.x) {
    const int i = i0 + e / kWidth, c = e % kWidth, diagonal = first + c;
    float v = 0.0f;
    if (i < b.size.m && diagonal < b.size.steps)
      v = i == diagonal ? 1.0f : i > diagonal ? b.w[(long)i * b.line + diagonal] : 0.0f;
    s.v[e / kWidth][c] = v;
  }
}

KD_INLINE void read_x(const Blocked& b, int i0, const float* x, long line, int columns, Shelf& s) {
  for (int e = threadIdx.x; e < kChunk * kTile; e += blockDim.x) {
    const int i = i0 + e / kTile, j = e % kTile;
    s.x[e / kTile][j] = i < b.size.m && j < columns ? x[i * line + j] : 0.0f;
  }
}

KD_INLINE void reflect_tile(const Blocked& b, int first, bool is_transposed, float* x, long line, int columns, Shelf& s) {
  const float* const t = b.t + (long)first * kWidth;
  for (int e = threadIdx.x; e < kWidth * kWidth; e += blockDim.x) s.t[e / kWidth][e % kWidth] = t[e];
  const int row = threadIdx.x / 16 * 2, column = threadIdx.x % 16 * 4;
  float sum[2][4] = {};
  for (int i0 = first; i0 < b.size.m; i0 += kChunk) {
    __syncthreads();
    read_chunk(b, first, i0, s);
    read_x(b, i0, x, line, columns, s);
    __syncthreads();
#pragma unroll 8
    for (int i = 0; i < kChunk; ++i) {
      const float2 v = *(const float2*)&s.v[i][row];
      const float4 y = *(const float4*)&s.x[i][column];
      sum[0][0] += v.x * y.x, sum[0][1] += v.x * y.y, sum[0][2] += v.x * y.z, sum[0][3] += v.x * y.w;
      sum[1][0] += v.y * y.x, sum[1][1] += v.y * y.y, sum[1][2] += v.y * y.z, sum[1][3] += v.y * y.w;
    }
  }
  __syncthreads();
#pragma unroll
  for (int r = 0; r < 2; ++r)
#pragma unroll
    for (int j = 0; j < 4; ++j) s.x[row + r][column + j] = sum[r][j];  // kChunk is kWidth
  __syncthreads();
#pragma unroll
  for (int r = 0; r < 2; ++r)
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      float total = 0.0f;
      for (int c = 0; c < kWidth; ++c)
        total += (is_transposed ? s.t[c][row + r] : s.t[row + r][c]) * s.x[c][column + j];
      s.y[row + r][column + j] = total;
    }
  for (int i0 = first; i0 < b.size.m; i0 += kChunk) {
    __syncthreads();
    read_chunk(b, first, i0, s);
    __syncthreads();
    float rest[2][4] = {};
#pragma unroll 8
    for (int c = 0; c < kWidth; ++c) {
      const float4 y = *(const float4*)&s.y[c][column];
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        const float v = s.v[row + r][c];
        rest[r][0] += v * y.x, rest[r][1] += v * y.y, rest[r][2] += v * y.z, rest[r][3] += v * y.w;
      }
    }
#pragma unroll
    for (int r = 0; r < 2; ++r)
#pragma unroll
      for (int j = 0; j < 4; ++j)
        if (i0 + row + r < b.size.m && column + j < columns) x[(i0 + row + r) * line + column + j] -= rest[r][j];
  }
  __syncthreads();
}

extern "C" __global__ void __launch_bounds__(256) mlx_kd_qr_columns(const __grid_constant__ kd_arguments a) {
  __shared__ Shelf shelf;
  const Blocked b = blocked_of(a, blockIdx.x);
  const int first = (int)a.stage, j = first + kWidth + blockIdx.y * kTile;
  if (b.found->spoilt >= b.size.n) reflect_tile(b, first, true, b.w + j, b.line, min(kTile, b.line - j), shelf);
}

extern "C" __global__ void __launch_bounds__(256) mlx_kd_qr_r(const __grid_constant__ kd_arguments a) {
  const Blocked b = blocked_of(a, blockIdx.x);
  const bool failed = b.found->spoilt < b.size.n;
  const float back = scale_of(b.found->largest).back;
  float* const to = (float*)a.outputs[1] + b.which * b.size.tall * b.size.n;
  const int i = blockIdx.y * 8 + threadIdx.x / 32;
  for (int j = threadIdx.x % 32; j < b.size.n && i < b.size.tall; j += 32)
    to[(long)i * b.size.n + j] = failed ? not_a_number() : j < i ? 0.0f : b.w[(long)i * b.line + j] * back;
}

extern "C" __global__ void __launch_bounds__(256) mlx_kd_qr_q(const __grid_constant__ kd_arguments a) {
  __shared__ Shelf shelf;
  const Blocked b = blocked_of(a, blockIdx.x);
  const bool failed = b.found->spoilt < b.size.n;
  const int j0 = blockIdx.y * kTile, columns = min(kTile, b.size.tall - j0);
  float* const to = (float*)a.outputs[0] + b.which * b.size.m * b.size.tall + j0;
  for (long e = threadIdx.x; e < (long)b.size.m * kTile; e += blockDim.x) {
    const long i = e / kTile;
    const int j = (int)(e % kTile);
    if (j < columns) to[i * b.size.tall + j] = failed ? not_a_number() : i == j0 + j ? 1.0f : 0.0f;
  }
  if (failed) return;
  __syncthreads();
  for (int first = min(j0 + columns - 1, b.size.steps - 1) / kWidth * kWidth; first >= 0; first -= kWidth)
    reflect_tile(b, first, false, to, b.size.tall, columns, shelf);
}
