// clang-format off
// matmul: y = act(alpha op(a) op(b) + beta c + bias) of a batch of matrices, on an NVIDIA GPU.
//
//   mlx_kd_matmul          any type, size and strides, on ordinary units: a block has 128 x 128 results
//   mlx_kd_matmul_nn, _nt, _tn, _tt
//                          of 16 bits, on tensor cores (sm_90a); the letters say which of a and b are transposed
//   mlx_kd_matmul_rows     before them, where rows are not whole 16 bytes or the last rows of K are not whole tiles: a copy
//                          with such rows, of a in scratch memory 0 and of b in 1
//
// How tensor cores are used: ../../common/wide_tiles.cu.h. Bulk copies take operands as the sizes say that they lie. Where the strides
// of a view say something else, the threads of the first warpgroup copy the tiles of both operands themselves.
#include "../../common/alone.cu.h"
#include "product.cu.h"

constexpr int kMultiple = 64;  // of rows of copies, and of their lengths

// How an operand lies: rows of `columns` elements, so many of a matrix.
struct Layout {
  long rows, columns;
  bool across, copied;

  __device__ Layout(const kd_arguments& a, int port) {
    const long k = a.dims[KD_DIM_K], lines = a.dims[port == 0 ? KD_DIM_M : KD_DIM_N];
    across = port == 0 ? a.dims[KD_DIM_transpose_a] != 0 : a.dims[KD_DIM_transpose_b] == 0;
    rows = across ? k : lines, columns = across ? lines : k;
    copied = columns % 8 != 0 || (across && a.dims[KD_DIM_batch] > 1 && k % kMultiple != 0);
  }
  __device__ static long whole(long count) { return (count + kMultiple - 1) / kMultiple * kMultiple; }
  __device__ bool has_whole_rows(const kd_arguments& a, int port) const {
    return copied || rows == 1 || a.strides[port][2] == columns;
  }
  // Whether all matrices are the same, and tiles reach over the end of none.
  __device__ bool is_shared(const kd_arguments& a, int port) const {
    return !copied && a.dims[KD_DIM_batch] > 1 && a.strides[port][1] == 0 && has_whole_rows(a, port) &&
           (across || rows % 256 == 0);
  }
  // Whether bulk copies find it elsewhere.
  __device__ bool is_view(const kd_arguments& a, int port) const {
    const bool follow = copied || a.dims[KD_DIM_batch] == 1 || a.strides[port][1] == rows * columns;
    return !has_whole_rows(a, port) || !(follow || is_shared(a, port));
  }
  // Rows from one matrix to the next.
  __device__ long copied_rows() const { return copied && across ? whole(rows) : rows; }
  __device__ long pitch_of_matrices(const kd_arguments& a, int port) const {
    return is_shared(a, port) ? 0 : copied_rows();
  }
};

// A block copies a row of a matrix of a, or of b where its y is 1: zeros below and behind.
static __device__ void copy_row(const kd_arguments& a) {
  const int port = blockIdx.y;
  const Layout layout(a, port);
  if (!layout.copied) return;
  const long each = layout.copied_rows(), item = blockIdx.x / each, row = blockIdx.x % each;
  if (item >= a.dims[KD_DIM_batch]) return;
  const T* from = (const T*)a.inputs[port] + item * a.strides[port][1] + row * a.strides[port][2];
  const long width = Layout::whole(layout.columns), columns = row < layout.rows ? layout.columns : 0;
  T* to = (T*)a.scratch[port] + blockIdx.x * width;
  constexpr int kNumbers = 16 / sizeof(T);
  for (long first = threadIdx.x * (long)kNumbers; first < width; first += 256 * kNumbers) {
    alignas(16) T some[kNumbers];
#pragma unroll
    for (int i = 0; i < kNumbers; ++i) some[i] = first + i < columns ? from[first + i] : narrow(0);
    *(uint4*)(to + first) = *(const uint4*)some;
  }
}

// --- any size, type and strides -----------------------------------------------------------------

constexpr int kSide = 128, kDepth = 16, kPitch = kSide + 4, kEach = kSide * kDepth / 256;

// What a thread reads of kSide lines (rows or columns of y) and kDepth of K: two fours along the rows of memory.
struct Fours {
  float x[kEach];

  static __device__ int line(int i, bool across) {
    const int at = threadIdx.x + 256 * i;
    return across ? at % (kSide / 4) * 4 : at / (kDepth / 4);
  }
  static __device__ int depth(int i, bool across) {
    const int at = threadIdx.x + 256 * i;
    return across ? at / (kSide / 4) : at % (kDepth / 4) * 4;
  }
  __device__ void load(const Operand& from, long first, long k) {
#pragma unroll
    for (int i = 0; i < kEach / 4; ++i) {
      const long l = first + line(i, from.by_k), d = k + depth(i, from.by_k);
      const long row = from.by_k ? d : l, column = from.by_k ? l : d;
      const long rows = from.by_k ? from.depth : from.lines, columns = from.by_k ? from.lines : from.depth;
      const T* at = from.at + row * from.pitch + column;
      if (sizeof(T) == 4 && from.aligned && row < rows && column + 4 <= columns) {
        *(float4*)(x + 4 * i) = *(const float4*)at;
        continue;
      }
#pragma unroll
      for (int j = 0; j < 4; ++j) x[4 * i + j] = row < rows && column + j < columns ? widen(at[j]) : 0.0f;
    }
  }
  __device__ void store(float (&side)[kDepth][kPitch], bool across) const {
#pragma unroll
    for (int i = 0; i < kEach / 4; ++i) {
      const int l = line(i, across), d = depth(i, across);
      if (across)
        *(float4*)&side[d][l] = *(const float4*)(x + 4 * i);
      else
#pragma unroll
        for (int j = 0; j < 4; ++j) side[d + j][l] = x[4 * i + j];
    }
  }
};

static __device__ void load_eight(float (&x)[8], const float* from) {
  *(float4*)x = *(const float4*)from;
  *(float4*)(x + 4) = *(const float4*)(from + 64);
}

static __device__ void multiply_block(const kd_arguments& a) {
  __shared__ __align__(16) float left[2][kDepth][kPitch], right[2][kDepth][kPitch];
  const long m = a.dims[KD_DIM_M], n = a.dims[KD_DIM_N], k = a.dims[KD_DIM_K];
  const long down = (m + kSide - 1) / kSide, across = (n + kSide - 1) / kSide, item = blockIdx.x / (down * across);
  const long first_row = blockIdx.x / across % down * kSide, first_column = blockIdx.x % across * kSide;
  const Operand of_a(a, 0, item, m, a.dims[KD_DIM_transpose_a] != 0), of_b(a, 1, item, n, a.dims[KD_DIM_transpose_b] == 0);
  const int row = threadIdx.x / 16 * 4, column = threadIdx.x % 16 * 4;
  Fours next_a, next_b;
  next_a.load(of_a, first_row, 0), next_b.load(of_b, first_column, 0);
  float sums[8][8] = {};
  int turn = 0;
  for (long at = 0; at < k; at += kDepth, turn ^= 1) {
    next_a.store(left[turn], of_a.by_k), next_b.store(right[turn], of_b.by_k);
    __syncthreads();
    if (at + kDepth < k) next_a.load(of_a, first_row, at + kDepth), next_b.load(of_b, first_column, at + kDepth);
#pragma unroll
    for (int d = 0; d < kDepth; ++d) {
      float x[8], y[8];
      load_eight(x, &left[turn][d][row]), load_eight(y, &right[turn][d][column]);
#pragma unroll
      for (int i = 0; i < 8; ++i)
#pragma unroll
        for (int j = 0; j < 8; ++j) sums[i][j] = fmaf(x[i], y[j], sums[i][j]);
    }
  }
  T* to = (T*)a.outputs[0] + item * m * n;
#pragma unroll
  for (int i = 0; i < 8; ++i)
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      const long r = first_row + row + i / 4 * 64 + i % 4, c = first_column + column + j / 4 * 64 + j % 4;
      if (r < m && c < n) to[r * n + c] = result_of(a, sums[i][j], item, r, c);
    }
}

#define KD_MATMUL(name, does)                                                                          \
  KD_WHERE_WANTED(name, extern "C" __global__ void __launch_bounds__(256, 2)                           \
      name(const __grid_constant__ kd_arguments a) { does(a); })
KD_MATMUL(mlx_kd_matmul, multiply_block)
KD_MATMUL(mlx_kd_matmul_rows, copy_row)

// --- tensor cores -------------------------------------------------------------------------------

#define KD_ITEMS(a) a.dims[KD_DIM_batch]
#define KD_ROWS_OF_A(a) Layout(a, 0).pitch_of_matrices(a, 0)
#define KD_ROWS_OF_B(a) Layout(a, 1).pitch_of_matrices(a, 1)

#include "../../common/wide_tiles.cu.h"

#if KD_DTYPE != 0 && defined(__CUDA_ARCH_FEAT_SM90_ALL)
// Copies of the threads of a warpgroup: kLines lines of y from `line` on, and 64 of K from k on, as load_tile has them.
template <bool kAcross, int kLines>
static __device__ void copy_lines(const Operand& from, long line, long k, unsigned to) {
  constexpr int kChunks = 8;  // of 16 bytes, of 64 numbers
  for (int i = threadIdx.x % 128; i < kLines * kChunks; i += 128) {
    const int tile = i / (64 * kChunks), row = i / kChunks % 64, chunk = i % kChunks;
    const long l = line + (kAcross ? 64 * tile + 8 * chunk : 64 * tile + row), d = k + (kAcross ? row : 8 * chunk);
    const long last = kAcross ? from.lines - l : from.depth - d;  // of the numbers that are there
    const bool is_there = kAcross ? d < from.depth : l < from.lines;
    const T* at = from.at + (kAcross ? d * from.pitch + l : l * from.pitch + d);
    const unsigned place = to + tile * (64 * kTileK * 2) + row * 128 + (chunk ^ row % 8) * 16;
    uint4 bits = {0, 0, 0, 0};
    if (is_there && last >= 8 && from.aligned) {
      bits = *(const uint4*)at;
    } else if (is_there) {
      alignas(16) T some[8];
#pragma unroll
      for (int j = 0; j < 8; ++j) some[j] = j < last ? at[j] : narrow(0);
      bits = *(const uint4*)some;
    }
    asm volatile("st.shared.v4.b32 [%0], {%1, %2, %3, %4};" ::"r"(place), "r"(bits.x), "r"(bits.y), "r"(bits.z),
                 "r"(bits.w)
                 : "memory");
  }
}

// In the place of request_tiles, for views: all lines of both operands, by the block itself. Blocks of a cluster that wait
// for it have no copies of others.
template <bool kAcrossA, bool kAcrossB>
static __device__ void copy_tiles(const kd_arguments& a, const Shared& shared, int block, unsigned first, unsigned step) {
  const Tiles tiles(a);
  const long depth = a.dims[KD_DIM_K];
  Turn turn(0);
  for (unsigned tile = first; tile < tiles.count; tile += step) {
    const Place at = tiles.find(tile, block);
    const Operand left(a, 0, at.item, a.dims[KD_DIM_M], kAcrossA), right(a, 1, at.item, a.dims[KD_DIM_N], kAcrossB);
    for (long k = 0; k < depth; k += kTileK, turn.next()) {
      barrier_wait(shared.empty + 8 * turn.stage, turn.parity ^ 1);
      copy_lines<kAcrossA, kTileM>(left, at.m, k, shared.a(turn.stage));
      copy_lines<kAcrossB, kTileN>(right, at.n, k, shared.b(turn.stage));
      fence_copies();
      barrier_arrive(shared.full + 8 * turn.stage);
    }
  }
}

template <bool kAcrossA, bool kAcrossB>
static __device__ void multiply_matrices(const kd_arguments& a, const kd_tensor_maps& maps) {
  const bool views = Layout(a, 0).is_view(a, 0) || Layout(a, 1).is_view(a, 1);
  multiply<kAcrossA, kAcrossB>(a, maps, views ? 128 : 1, [&](const Shared& shared, int block, unsigned first, unsigned step) {
    copy_tiles<kAcrossA, kAcrossB>(a, shared, block, first, step);
  });
}

#define KD_MATMUL_TILES(name, across_a, across_b)                                                      \
  KD_WHERE_WANTED(name, extern "C" __global__ void __launch_bounds__(kTileThreads, 1)                  \
      name(const __grid_constant__ kd_arguments a, const __grid_constant__ kd_tensor_maps maps) {      \
        multiply_matrices<across_a, across_b>(a, maps);                                                \
      })
KD_MATMUL_TILES(mlx_kd_matmul_nn, false, true)
KD_MATMUL_TILES(mlx_kd_matmul_nt, false, false)
KD_MATMUL_TILES(mlx_kd_matmul_tn, true, true)
KD_MATMUL_TILES(mlx_kd_matmul_tt, true, false)
#endif
