// clang-format off
// gemm: y = x W^T of many rows of x, with a norm before and a bias and a residual after.
//
//   mlx_kd_gemm          any type and size, on ordinary units: a block has 64 x 64 results
//   mlx_kd_gemm_tiles    of 16 bits, on tensor cores (sm_90a)
//   mlx_kd_gemm_norm     before it: x after its norm, in scratch memory 0
//   mlx_kd_gemm_rows     before it: rows of whole 16 bytes, of x in scratch memory 0 and of W in 1
//
// In mlx_kd_gemm_tiles a block stays for many tiles of 128 rows of x and TILE_N rows of W. One thread of its
// first warpgroup requests the tiles of 64 columns of both, STAGES ahead. Two warpgroups multiply them, either
// 64 rows each, or (OWN) each the whole of every other tile, so that one multiplies while the other stores; they
// give a stage back when they are done with it. Blocks of a cluster have the rows of x one below the other: each
// requests a share of the rows of W for all of them. Results are rounded, gathered in shared memory and stored by
// bulk copies while the next tile is multiplied. GROUP rows of tiles are done column by column, so that blocks
// which run at the same time share what they read.
#ifndef TILE_N
#define TILE_N 128  // rows of W of a tile: 128, or 256 where warpgroups share tiles
#endif
#ifndef OWN
#define OWN 1  // whether a warpgroup has tiles of its own
#endif
#ifndef STAGES
#define STAGES 5  // tiles of operands in shared memory
#endif
#ifndef CLUSTER
#define CLUSTER 1  // blocks that share what they read of W
#endif
#ifndef GROUP
#define GROUP 8  // rows of tiles that are done together
#endif
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
#include "../../common/kd_tensor_maps.h"
#include "../../common/numbers.cu.h"
#include "../../common/warpgroups.cu.h"

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

#if KD_DTYPE != 0 && defined(__CUDA_ARCH_FEAT_SM90_ALL)
constexpr int kTileM = 128, kTileN = TILE_N, kTileK = 64, kGroups = 2;
constexpr int kHalves = OWN ? 2 : 1;  // of 64 rows of a tile, of a warpgroup
constexpr int kBytesA = kTileM * kTileK * 2, kBytesB = kTileN * kTileK * 2, kBytesOfHalf = 64 * kTileN * 2;
constexpr int kTileThreads = 128 * (1 + kGroups);
enum { kMapX, kMapW, kMapY };

// Where the tiles of a call are, and in which order.
struct Tiles {
  unsigned rows, columns, count;  // in tiles, rows of clusters; of all
  __device__ explicit Tiles(const kd_arguments& a) {
    const long tile_rows = (a.dims[KD_DIM_M] + kTileM - 1) / kTileM;
    rows = unsigned((tile_rows + CLUSTER - 1) / CLUSTER);
    columns = unsigned((a.dims[KD_DIM_N] + kTileN - 1) / kTileN);
    count = rows * columns;
  }
  // The first row and column of the block's tile.
  __device__ void find(unsigned tile, int block, int& m, int& n) const {
    const unsigned of_group = GROUP * columns, group = tile / of_group, in_group = tile % of_group;
    const unsigned height = min((unsigned)GROUP, rows - group * GROUP);
    m = int(((group * GROUP + in_group % height) * CLUSTER + block) * kTileM);
    n = int(in_group / height * kTileN);
  }
};

// Shared memory of a block: tiles of operands, results of each warpgroup, barriers.
struct Shared {
  unsigned operands, results, full, empty;
  __device__ explicit Shared(unsigned at) {
    operands = at;
    results = operands + STAGES * (kBytesA + kBytesB);
    full = results + kGroups * kHalves * kBytesOfHalf;
    empty = full + 8 * STAGES;
  }
  __device__ unsigned x(int stage) const { return operands + stage * (kBytesA + kBytesB); }
  __device__ unsigned w(int stage) const { return x(stage) + kBytesA; }
};

// A place in the ring of stages: after so many turns.
struct Turn {
  int stage, parity;
  __device__ explicit Turn(unsigned turns) : stage(turns % STAGES), parity(turns / STAGES % 2) {}
  __device__ void next() {
    if (++stage == STAGES) stage = 0, parity ^= 1;
  }
};

static __device__ void request_tiles(const kd_arguments& a, const kd_tensor_maps& maps, const Shared& shared, int block,
                                     unsigned first, unsigned step) {
  const Tiles tiles(a);
  const int chunks = int((a.dims[KD_DIM_K] + kTileK - 1) / kTileK);
  constexpr int kShare = kTileN / CLUSTER;
  Turn turn(0);
  for (unsigned tile = first; tile < tiles.count; tile += step) {
    int m, n;
    tiles.find(tile, block, m, n);
    for (int chunk = 0; chunk < chunks; ++chunk, turn.next()) {
      const unsigned full = shared.full + 8 * turn.stage;
      barrier_wait(shared.empty + 8 * turn.stage, turn.parity ^ 1);
      barrier_expect(full, kBytesA + kBytesB);
      load_tile(shared.x(turn.stage), &maps.of[kMapX], chunk * kTileK, m, full);
      const unsigned to = shared.w(turn.stage) + block * (kShare * kTileK * 2);
      if (CLUSTER == 1)
        load_tile(to, &maps.of[kMapW], chunk * kTileK, n, full);
      else
        load_tile_to(to, &maps.of[kMapW], chunk * kTileK, n + block * kShare, full, (1 << CLUSTER) - 1);
    }
  }
}

static __device__ void give_back(const Shared& shared, int stage) {
  const int thread = threadIdx.x % 128;
  if (CLUSTER > 1 && thread < CLUSTER) barrier_arrive_at(shared.empty + 8 * stage, thread);
  if (CLUSTER == 1 && thread == 0) barrier_arrive(shared.empty + 8 * stage);
}

static __device__ unsigned pair_of(T low, T high) {
  return low | (unsigned)high << 16;
}

// Sums as numbers of 16 bits: pairs of columns, of two rows in turn.
static __device__ unsigned rounded_pair(const kd_arguments& a, float low, float high, long row, long column,
                                        bool is_plain) {
  if (is_plain) return pair_of(narrow(low), narrow(high));
  const bool is_there = row < a.dims[KD_DIM_M];
  const T first = is_there && column < a.dims[KD_DIM_N] ? result_of(a, low, row, column) : narrow(0);
  const T second = is_there && column + 1 < a.dims[KD_DIM_N] ? result_of(a, high, row, column + 1) : narrow(0);
  return pair_of(first, second);
}

// 64 rows into shared memory, where they are swizzled as the map's are.
static __device__ void gather_results(const kd_arguments& a, unsigned results, const float (&sums)[kTileN / 2], long m,
                                      long n) {
  const int warp = threadIdx.x % 128 / 32, lane = threadIdx.x % 32;
  const int row = 16 * warp + lane % 16;  // that this lane gives the address of
  const bool is_plain = !(a.dims[KD_DIM_has_bias] | a.dims[KD_DIM_has_residual]);
#pragma unroll
  for (int j = 0; j < kTileN / 8; j += 2) {
    const long top = m + 16 * warp + lane / 4, column = n + 8 * j + lane % 4 * 2;
    unsigned pairs[4];
#pragma unroll
    for (int i = 0; i < 4; ++i)
      pairs[i] = rounded_pair(a, sums[4 * j + 2 * i], sums[4 * j + 2 * i + 1], top + i % 2 * 8, column + i / 2 * 8,
                              is_plain);
    const int place = (j + lane / 16) % 8 ^ row % 8;
    const unsigned at = results + j / 8 * (64 * 128) + row * 128 + place * 16;
    asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(at), "r"(pairs[0]),
                 "r"(pairs[1]), "r"(pairs[2]), "r"(pairs[3])
                 : "memory");
  }
}

static __device__ void store_by_copies(const kd_arguments& a, const kd_tensor_maps& maps, unsigned results,
                                       const float (&sums)[kHalves][kTileN / 2], int group, int m, int n) {
  const bool is_first = threadIdx.x % 128 == 0;
  if (is_first) stores_read();
  group_meets(group);
#pragma unroll
  for (int half = 0; half < kHalves; ++half)
    gather_results(a, results + half * kBytesOfHalf, sums[half], m + 64 * half, n);
  fence_copies();
  group_meets(group);
  if (!is_first) return;
  for (int half = 0; half < kHalves; ++half)
    for (int j = 0; j < kTileN / 64; ++j)
      store_tile(results + half * kBytesOfHalf + j * (64 * 128), &maps.of[kMapY], n + 64 * j, m + 64 * half);
  stores_commit();
}

// Rows that do not start at multiples of 16 bytes: one number at a time.
static __device__ void store_by_threads(const kd_arguments& a, const float (&sums)[kHalves][kTileN / 2], long m,
                                        long n) {
  const int thread = threadIdx.x % 128, lane = thread % 32;
  T* y = (T*)a.outputs[0];
  const long rows = a.dims[KD_DIM_M], columns = a.dims[KD_DIM_N];
#pragma unroll
  for (int i = 0; i < kHalves * kTileN / 2; ++i) {
    const int half = i / (kTileN / 2), at = i % (kTileN / 2);
    const long row = m + 64 * half + 16 * (thread / 32) + lane / 4 + at / 2 % 2 * 8;
    const long column = n + at / 4 * 8 + lane % 4 * 2 + at % 2;
    if (row < rows && column < columns) y[row * columns + column] = result_of(a, sums[half][at], row, column);
  }
}

// `rows`: the first of the warpgroup in a tile. With tiles of its own, a warpgroup waits until the other one is
// through with the stages before its own: a barrier tells no more than whether the number of its phase is odd.
static __device__ void multiply_tile(const Shared& shared, float (&sums)[kHalves][kTileN / 2], int rows, int chunks,
                                     unsigned tile, int group, bool is_last) {
  Turn turn(tile * chunks);
  int before = -1;
  if (OWN && tile > 0) turn_wait(group);
  for (int chunk = 0; chunk < chunks; ++chunk, turn.next()) {
    barrier_wait(shared.full + 8 * turn.stage, turn.parity);
    const unsigned long long x = described(shared.x(turn.stage) + rows * 128), w = described(shared.w(turn.stage));
    products_begin();
#pragma unroll
    for (int i = 0; i < kTileK / 16; ++i)
#pragma unroll
      for (int half = 0; half < kHalves; ++half)
        Product<kTileN>::add(sums[half], x + 512 * half + 2 * i, w + 2 * i, chunk + i > 0);
    products_commit();
    products_wait<1>();
    if (before >= 0) give_back(shared, before);
    before = turn.stage;
  }
  if (OWN && !is_last) turn_pass(group);
  products_wait<0>();
  give_back(shared, before);
}

static __device__ void multiply_tiles(const kd_arguments& a, const kd_tensor_maps& maps, const Shared& shared, int group,
                                      int block, unsigned first, unsigned step) {
  const Tiles tiles(a);
  const int chunks = int((a.dims[KD_DIM_K] + kTileK - 1) / kTileK);
  const bool by_copies = a.dims[KD_DIM_N] % 8 == 0;
  constexpr unsigned kEvery = OWN ? kGroups : 1;
  for (unsigned turn = OWN ? group : 0; first + turn * step < tiles.count; turn += kEvery) {
    float sums[kHalves][kTileN / 2];
    const bool is_last = first + (turn + 1) * step >= tiles.count;
    multiply_tile(shared, sums, OWN ? 0 : 64 * group, chunks, turn, group, is_last);
    int m, n;
    tiles.find(first + turn * step, block, m, n);
    if (!OWN) m += 64 * group;
    if (by_copies)
      store_by_copies(a, maps, shared.results + group * kHalves * kBytesOfHalf, sums, group, m, n);
    else
      store_by_threads(a, sums, m, n);
  }
  if (by_copies && threadIdx.x % 128 == 0) stores_read();
}

extern "C" __global__ void __launch_bounds__(kTileThreads, 1)
    mlx_kd_gemm_tiles(const __grid_constant__ kd_arguments a, const __grid_constant__ kd_tensor_maps maps) {
  extern __shared__ __align__(1024) unsigned char memory[];
  const Shared shared(shared_address(memory));
  const int group = threadIdx.x / 128, block = CLUSTER == 1 ? 0 : block_in_cluster();
  if (threadIdx.x == 0) {
    for (int i = 0; i < STAGES; ++i) {
      barrier_init(shared.full + 8 * i, 1);
      barrier_init(shared.empty + 8 * i, (OWN ? 1 : kGroups) * CLUSTER);
    }
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    fence_copies();
  }
  if (CLUSTER == 1)
    __syncthreads();
  else
    cluster_meets();
  const unsigned first = blockIdx.x / CLUSTER, step = gridDim.x / CLUSTER;
  if (group == 0) {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 40;");
    if (threadIdx.x == 0) request_tiles(a, maps, shared, block, first, step);
  } else {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 232;");
    multiply_tiles(a, maps, shared, group - 1, block, first, step);
  }
  if (CLUSTER > 1) cluster_meets();
}
#endif
