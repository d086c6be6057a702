// clang-format off
// matmul: y = act(alpha op(a) op(b) + beta c + bias) of a batch of matrices, on an NVIDIA GPU: for long sums of narrow
// matrices, and for few rows or columns.
//
// A tile is 32 x 32 results. A block takes a tile and a part of K; its WARPS warps take 32 of K in turn, each with STAGES
// tiles of both operands of its own in shared memory, so that no warp waits for another. Operands of 16 bits are
// multiplied on tensor cores (mma of 16 x 8 x 16), float32 on ordinary units. Tiles lie as they lie in memory, in rows of
// 32 elements, and are transposed on their way to registers; 16 bytes of a row are swizzled so that 8 rows of a column are
// in different banks. Sums of warps, and of parts, are added in order, so a result has the same bits at each call.
//
//   mlx_kd_matmul_parts       the sums of a part; the results where there is one part
//   mlx_kd_matmul_parts_sums  the sums of all parts: a block has 128 results of a tile, and 8 threads for each
//
// Scratch 0: sums (tile of the batch, part, row, column). Index of both: parts.
#ifndef WARPS
#define WARPS 8  // of a block
#endif
#ifndef STAGES
#define STAGES 3  // tiles of an operand that a warp has in shared memory
#endif
#ifndef TILE_BYTES
#define TILE_BYTES (KD_DTYPE == 0 ? 4096 : 2048)  // of a tile of an operand
#endif

#include "product.cu.h"

constexpr int kSide = 32, kChunks = kSide / kOfChunk, kRowBytes = 16 * kChunks;
constexpr int kTileBytes = kSide * kRowBytes, kResults = kSide * kSide;
static_assert(kTileBytes == TILE_BYTES, "the launch counts the bytes of a tile");

static __device__ unsigned place_of(int row, int chunk) {
  return row * kRowBytes + (sizeof(T) == 4 ? chunk ^ (row % 8) : chunk ^ (row / 2 % 4)) * 16;
}

// Requests 32 lines and 32 of K, by a warp; 0 beyond the ends.
static __device__ void request(const Operand& from, long line, long k, unsigned to) {
  const long first_row = from.by_k ? k : line, first_column = from.by_k ? line : k;
  const long rows = from.by_k ? from.depth : from.lines, columns = from.by_k ? from.lines : from.depth;
  for (int i = threadIdx.x % 32; i < kSide * kChunks; i += 32) {
    const long row = first_row + i / kChunks, column = first_column + i % kChunks * kOfChunk;
    const T* at = from.at + row * from.pitch + column;
    const unsigned place = to + place_of(i / kChunks, i % kChunks);
    if (row < rows && column + kOfChunk <= columns && from.aligned) {
      asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(place), "l"(at) : "memory");
      continue;
    }
    alignas(16) T some[kOfChunk];
#pragma unroll
    for (int j = 0; j < kOfChunk; ++j) some[j] = row < rows && column + j < columns ? at[j] : narrow(0.0f);
    const uint4 bits = *(const uint4*)some;
    asm volatile("st.shared.v4.b32 [%0], {%1, %2, %3, %4};" ::"r"(place), "r"(bits.x), "r"(bits.y), "r"(bits.z),
                 "r"(bits.w)
                 : "memory");
  }
}

// --- sums of a warp: `sums` of a lane, and where it has them ------------------------------------

#if KD_DTYPE == 0

static __device__ float element(unsigned tile, bool by_k, int line, int k) {
  const int row = by_k ? k : line, column = by_k ? line : k;
  float x;
  asm volatile("ld.shared.f32 %0, [%1];" : "=f"(x) : "r"(tile + place_of(row, column / 4) + column % 4 * 4) : "memory");
  return x;
}

// A lane has 4 rows and 8 columns.
static __device__ void multiply(float (&sums)[32], unsigned left, bool left_by_k, unsigned right, bool right_by_k) {
  const int lane = threadIdx.x % 32;
#pragma unroll 4
  for (int k = 0; k < kSide; ++k) {
    float x[4], y[8];
#pragma unroll
    for (int i = 0; i < 4; ++i) x[i] = element(left, left_by_k, lane / 4 * 4 + i, k);
#pragma unroll
    for (int j = 0; j < 8; ++j) y[j] = element(right, right_by_k, lane % 4 + 4 * j, k);
#pragma unroll
    for (int i = 0; i < 4; ++i)
#pragma unroll
      for (int j = 0; j < 8; ++j) sums[i * 8 + j] = fmaf(x[i], y[j], sums[i * 8 + j]);
  }
}
static __device__ int result_of_sum(int i) {
  const int lane = threadIdx.x % 32;
  return (lane / 4 * 4 + i / 8) * kSide + lane % 4 + 4 * (i % 8);
}

#else

#if KD_DTYPE == 1
#define KD_NUMBERS "f16"
#else
#define KD_NUMBERS "bf16"
#endif

// Four matrices of 8 x 8; a lane gives a row of one.
static __device__ void load_matrices(unsigned (&x)[4], unsigned at, bool transposed) {
  if (transposed)
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3])
                 : "r"(at)
                 : "memory");
  else
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3])
                 : "r"(at)
                 : "memory");
}

static __device__ void multiply(float (&sums)[32], unsigned left, bool left_by_k, unsigned right, bool right_by_k) {
  const int row = threadIdx.x % 8, low = threadIdx.x / 8 % 2, high = threadIdx.x / 16 % 2;
#pragma unroll
  for (int k = 0; k < 2; ++k) {
    unsigned x[2][4], y[2][4];
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      // Of x: 8 rows below each other, then the next 8 of K; of y the other way round.
      load_matrices(x[i], left + (left_by_k ? place_of(16 * k + 8 * high + row, 2 * i + low)
                                            : place_of(16 * i + 8 * low + row, 2 * k + high)),
                    left_by_k);
      load_matrices(y[i], right + (right_by_k ? place_of(16 * k + 8 * low + row, 2 * i + high)
                                              : place_of(16 * i + 8 * high + row, 2 * k + low)),
                    right_by_k);
    }
#pragma unroll
    for (int i = 0; i < 2; ++i)
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        float* d = sums + (i * 4 + j) * 4;
        asm volatile("mma.sync.aligned.m16n8k16.row.col.f32." KD_NUMBERS "." KD_NUMBERS
                     ".f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                     : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                     : "r"(x[i][0]), "r"(x[i][1]), "r"(x[i][2]), "r"(x[i][3]), "r"(y[j / 2][j % 2 * 2]),
                       "r"(y[j / 2][j % 2 * 2 + 1]));
      }
  }
}
static __device__ int result_of_sum(int i) {
  const int lane = threadIdx.x % 32, of_four = i % 4;
  return (i / 16 * 16 + lane / 4 + of_four / 2 * 8) * kSide + i / 4 % 4 * 8 + lane % 4 * 2 + of_four % 2;
}

#endif

// --- results ------------------------------------------------------------------------------------

struct Tile {
  long item, row, column;

  __device__ Tile(const kd_arguments& a, long index) {
    const long down = (a.dims[KD_DIM_M] + kSide - 1) / kSide, across = (a.dims[KD_DIM_N] + kSide - 1) / kSide;
    item = index / (down * across);
    row = index / across % down * kSide;
    column = index % across * kSide;
  }
  __device__ void store(const kd_arguments& a, int result, float sum) const {
    const long i = row + result / kSide, j = column + result % kSide;
    if (i < a.dims[KD_DIM_M] && j < a.dims[KD_DIM_N])
      ((T*)a.outputs[0])[(item * a.dims[KD_DIM_M] + i) * a.dims[KD_DIM_N] + j] = result_of(a, sum, item, i, j);
  }
};

extern "C" __global__ void __launch_bounds__(32 * WARPS, 1) mlx_kd_matmul_parts(const __grid_constant__ kd_arguments a) {
  extern __shared__ __align__(128) unsigned char memory[];
  const int warp = threadIdx.x / 32;
  const long parts = a.stage, part = blockIdx.x % parts, index = blockIdx.x / parts;
  const Tile tile(a, index);
  const Operand left(a, 0, tile.item, a.dims[KD_DIM_M], a.dims[KD_DIM_transpose_a] != 0);
  const Operand right(a, 1, tile.item, a.dims[KD_DIM_N], a.dims[KD_DIM_transpose_b] == 0);
  const long steps = (a.dims[KD_DIM_K] + kSide - 1) / kSide, end = steps * (part + 1) / parts;
  const long begin = steps * part / parts + warp;
  const unsigned own = (unsigned)__cvta_generic_to_shared(memory) + warp * STAGES * 2 * kTileBytes;
  const auto request_step = [&](long step, int stage) {
    if (step < end) {
      request(left, tile.row, step * kSide, own + stage * 2 * kTileBytes);
      request(right, tile.column, step * kSide, own + (stage * 2 + 1) * kTileBytes);
    }
    asm volatile("cp.async.commit_group;" ::: "memory");
  };
  float sums[32] = {};
#pragma unroll
  for (int i = 0; i < STAGES - 1; ++i) request_step(begin + i * WARPS, i);
  int stage = 0;
  for (long step = begin; step < end; step += WARPS) {
    asm volatile("cp.async.wait_group %0;" ::"n"(STAGES - 2) : "memory");
    __syncwarp();
    request_step(step + (STAGES - 1) * WARPS, stage == 0 ? STAGES - 1 : stage - 1);
    multiply(sums, own + stage * 2 * kTileBytes, left.by_k, own + (stage * 2 + 1) * kTileBytes, right.by_k);
    if (++stage == STAGES) stage = 0;
  }
  asm volatile("cp.async.wait_group 0;" ::: "memory");
  __syncthreads();
  float* of_warps = (float*)memory;
#pragma unroll
  for (int i = 0; i < 32; ++i) of_warps[warp * kResults + result_of_sum(i)] = sums[i];
  __syncthreads();
  for (int i = threadIdx.x; i < kResults; i += 32 * WARPS) {
    float sum = 0;
#pragma unroll
    for (int w = 0; w < WARPS; ++w) sum += of_warps[w * kResults + i];
    if (parts == 1)
      tile.store(a, i, sum);
    else
      ((float*)a.scratch[0])[blockIdx.x * (long)kResults + i] = sum;
  }
}

extern "C" __global__ void __launch_bounds__(1024) mlx_kd_matmul_parts_sums(const __grid_constant__ kd_arguments a) {
  __shared__ float shares[8][128];
  const long index = blockIdx.x / 8, parts = a.stage;
  const int group = threadIdx.x / 128, of_block = threadIdx.x % 128, result = (int)(blockIdx.x % 8) * 128 + of_block;
  const float* from = (const float*)a.scratch[0] + index * parts * kResults + result;
  float sum = 0;
#pragma unroll 8
  for (long part = parts * group / 8; part < parts * (group + 1) / 8; ++part) sum += from[part * kResults];
  shares[group][of_block] = sum;
  __syncthreads();
  if (group > 0) return;
  for (int i = 1; i < 8; ++i) sum += shares[i][of_block];
  Tile(a, index).store(a, result, sum);
}
