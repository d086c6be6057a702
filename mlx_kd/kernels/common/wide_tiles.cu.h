// clang-format off
// Products of tiles on tensor cores (sm_90a), of 16 bits: y = op(a) op(b), for operators that say what becomes of a sum.
//
// A block stays for many tiles of 128 rows of y and TILE_N columns. One thread of its first warpgroup requests the tiles
// of 64 of K of both operands, STAGES ahead. Two warpgroups multiply them, either 64 rows each, or (OWN) each the whole of
// every other tile, so that one multiplies while the other stores; they give a stage back when they are done with it.
// Blocks of a cluster have the rows of y one below the other: each requests a share of b for all of them. Results are
// rounded, gathered in shared memory and stored by bulk copies while the next tile is multiplied. GROUP rows of tiles are
// done column by column, so that blocks which run at the same time share what they read.
//
// A tile of an operand whose rows are along K has a row of 64 numbers for each row or column of y. Of one that lies
// across (kAcrossA, kAcrossB), tiles of 64 of K have 64 rows or columns of y each, one tile behind the other.
//
// The source defines before: T result_of(a, sum, item, row, column); bool is_plain(a): a result is the sum alone;
// KD_ITEMS(a): the matrices of y, one below the other; KD_ROWS_OF_A(a), KD_ROWS_OF_B(a): how many rows behind a
// matrix of an operand the next begins.
#pragma once

#include "kd_tensor_maps.h"
#include "warpgroups.cu.h"

#ifndef TILE_N
#define TILE_N 128  // columns of y of a tile: 128, or 256 where warpgroups share tiles
#endif
#ifndef OWN
#define OWN 1  // whether a warpgroup has tiles of its own
#endif
#ifndef STAGES
#define STAGES 5  // tiles of operands in shared memory
#endif
#ifndef CLUSTER
#define CLUSTER 1  // blocks that share what they read of b
#endif
#ifndef GROUP
#define GROUP 8  // rows of tiles that are done together
#endif

#if KD_DTYPE != 0 && defined(__CUDA_ARCH_FEAT_SM90_ALL)
constexpr int kTileM = 128, kTileN = TILE_N, kTileK = 64, kGroups = 2;
constexpr int kHalves = OWN ? 2 : 1;  // of 64 rows of a tile, of a warpgroup
constexpr int kBytesA = kTileM * kTileK * 2, kBytesB = kTileN * kTileK * 2, kBytesOfHalf = 64 * kTileN * 2;
constexpr int kTileThreads = 128 * (1 + kGroups);
enum { kMapA, kMapB, kMapY };

// A tile's matrix, and its first row and column there.
struct Place {
  long item;
  int m, n;
};

// Where the tiles of a call are, and in which order.
struct Tiles {
  unsigned rows, columns, of_item, count;  // in tiles, rows of clusters; of a matrix, of all
  __device__ explicit Tiles(const kd_arguments& a) {
    const long tile_rows = (a.dims[KD_DIM_M] + kTileM - 1) / kTileM;
    rows = unsigned((tile_rows + CLUSTER - 1) / CLUSTER);
    columns = unsigned((a.dims[KD_DIM_N] + kTileN - 1) / kTileN);
    of_item = rows * columns;
    count = of_item * (unsigned)KD_ITEMS(a);
  }
  __device__ Place find(unsigned tile, int block) const {
    const unsigned item = tile / of_item, of_group = GROUP * columns, group = tile % of_item / of_group;
    const unsigned in_group = tile % of_item % of_group, height = min((unsigned)GROUP, rows - group * GROUP);
    return {item, int(((group * GROUP + in_group % height) * CLUSTER + block) * kTileM), int(in_group / height * kTileN)};
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
  __device__ unsigned a(int stage) const { return operands + stage * (kBytesA + kBytesB); }
  __device__ unsigned b(int stage) const { return a(stage) + kBytesA; }
};

// A place in the ring of stages: after so many turns.
struct Turn {
  int stage, parity;
  __device__ explicit Turn(unsigned turns) : stage(turns % STAGES), parity(turns / STAGES % 2) {}
  __device__ void next() {
    if (++stage == STAGES) stage = 0, parity ^= 1;
  }
};

// kRows rows of K from k on, of kLines rows or columns of y from `line` on; both count from the first matrix.
template <bool kAcross, int kLines, class Load>
static __device__ void request_lines(unsigned to, int line, int k, Load load) {
  if constexpr (kAcross) {
#pragma unroll
    for (int i = 0; i < kLines / 64; ++i) load(to + i * (64 * kTileK * 2), line + 64 * i, k);
  } else {
    load(to, k, line);
  }
}

template <bool kAcrossA, bool kAcrossB>
static __device__ void request_tiles(const kd_arguments& a, const kd_tensor_maps& maps, const Shared& shared, int block,
                                     unsigned first, unsigned step) {
  const Tiles tiles(a);
  const int chunks = int((a.dims[KD_DIM_K] + kTileK - 1) / kTileK);
  const long rows_of_a = KD_ROWS_OF_A(a), rows_of_b = KD_ROWS_OF_B(a);
  constexpr int kShare = kTileN / CLUSTER;
  Turn turn(0);
  for (unsigned tile = first; tile < tiles.count; tile += step) {
    const Place at = tiles.find(tile, block);
    const int below_a = int(at.item * rows_of_a), below_b = int(at.item * rows_of_b), n = at.n + block * kShare;
    for (int k = 0; k < chunks * kTileK; k += kTileK, turn.next()) {
      const unsigned full = shared.full + 8 * turn.stage;
      barrier_wait(shared.empty + 8 * turn.stage, turn.parity ^ 1);
      barrier_expect(full, kBytesA + kBytesB);
      request_lines<kAcrossA, kTileM>(shared.a(turn.stage), at.m + (kAcrossA ? 0 : below_a), k + (kAcrossA ? below_a : 0),
                                      [&](unsigned to, int x, int y) { load_tile(to, &maps.of[kMapA], x, y, full); });
      request_lines<kAcrossB, kShare>(shared.b(turn.stage) + block * (kShare * kTileK * 2), n + (kAcrossB ? 0 : below_b),
                                      k + (kAcrossB ? below_b : 0), [&](unsigned to, int x, int y) {
                                        if (CLUSTER == 1)
                                          load_tile(to, &maps.of[kMapB], x, y, full);
                                        else
                                          load_tile_to(to, &maps.of[kMapB], x, y, full, (1 << CLUSTER) - 1);
                                      });
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
static __device__ unsigned rounded_pair(const kd_arguments& a, float low, float high, long item, long row, long column,
                                        bool plain) {
  if (plain) return pair_of(narrow(low), narrow(high));
  const bool is_there = row < a.dims[KD_DIM_M];
  const T first = is_there && column < a.dims[KD_DIM_N] ? result_of(a, low, item, row, column) : narrow(0);
  const T second = is_there && column + 1 < a.dims[KD_DIM_N] ? result_of(a, high, item, row, column + 1) : narrow(0);
  return pair_of(first, second);
}

// 64 rows into shared memory, where they are swizzled as the map's are.
static __device__ void gather_results(const kd_arguments& a, unsigned results, const float (&sums)[kTileN / 2], long item,
                                      long m, long n) {
  const int warp = threadIdx.x % 128 / 32, lane = threadIdx.x % 32;
  const int row = 16 * warp + lane % 16;  // that this lane gives the address of
  const bool plain = is_plain(a);
#pragma unroll
  for (int j = 0; j < kTileN / 8; j += 2) {
    const long top = m + 16 * warp + lane / 4, column = n + 8 * j + lane % 4 * 2;
    unsigned pairs[4];
#pragma unroll
    for (int i = 0; i < 4; ++i)
      pairs[i] = rounded_pair(a, sums[4 * j + 2 * i], sums[4 * j + 2 * i + 1], item, top + i % 2 * 8,
                              column + i / 2 * 8, plain);
    const int place = (j + lane / 16) % 8 ^ row % 8;
    const unsigned at = results + j / 8 * (64 * 128) + row * 128 + place * 16;
    asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(at), "r"(pairs[0]),
                 "r"(pairs[1]), "r"(pairs[2]), "r"(pairs[3])
                 : "memory");
  }
}

// Rows beyond a matrix of y are those of the next, unless it is the last.
static __device__ void store_by_copies(const kd_arguments& a, const kd_tensor_maps& maps, unsigned results,
                                       const float (&sums)[kHalves][kTileN / 2], int group, const Place& at) {
  const bool is_first = threadIdx.x % 128 == 0;
  if (is_first) stores_read();
  group_meets(group);
#pragma unroll
  for (int half = 0; half < kHalves; ++half)
    gather_results(a, results + half * kBytesOfHalf, sums[half], at.item, at.m + 64 * half, at.n);
  fence_copies();
  group_meets(group);
  if (!is_first) return;
  for (int half = 0; half < kHalves && at.m + 64 * half < a.dims[KD_DIM_M]; ++half)
    for (int j = 0; j < kTileN / 64; ++j)
      store_tile(results + half * kBytesOfHalf + j * (64 * 128), &maps.of[kMapY], at.n + 64 * j,
                 int(at.item * a.dims[KD_DIM_M]) + at.m + 64 * half);
  stores_commit();
}

// Rows that do not start at multiples of 16 bytes: one number at a time.
static __device__ void store_by_threads(const kd_arguments& a, const float (&sums)[kHalves][kTileN / 2], const Place& to) {
  const int thread = threadIdx.x % 128, lane = thread % 32;
  const long rows = a.dims[KD_DIM_M], columns = a.dims[KD_DIM_N];
  T* y = (T*)a.outputs[0] + to.item * rows * columns;
#pragma unroll
  for (int i = 0; i < kHalves * kTileN / 2; ++i) {
    const int half = i / (kTileN / 2), at = i % (kTileN / 2);
    const long row = to.m + 64 * half + 16 * (thread / 32) + lane / 4 + at / 2 % 2 * 8;
    const long column = to.n + at / 4 * 8 + lane % 4 * 2 + at % 2;
    if (row < rows && column < columns) y[row * columns + column] = result_of(a, sums[half][at], to.item, row, column);
  }
}

// `rows`: the first of the warpgroup in a tile. With tiles of its own, a warpgroup waits until the other one is
// through with the stages before its own: a barrier tells no more than whether the number of its phase is odd.
template <bool kAcrossA, bool kAcrossB>
static __device__ void multiply_tile(const Shared& shared, float (&sums)[kHalves][kTileN / 2], int rows, int chunks,
                                     unsigned tile, int group, bool is_last) {
  Turn turn(tile * chunks);
  int before = -1;
  if (OWN && tile > 0) turn_wait(group);
  for (int chunk = 0; chunk < chunks; ++chunk, turn.next()) {
    barrier_wait(shared.full + 8 * turn.stage, turn.parity);
    // 64 rows have as many bytes in both forms.
    const unsigned of_a = shared.a(turn.stage) + rows * (kTileK * 2), of_b = shared.b(turn.stage);
    const unsigned long long a = kAcrossA ? described_across(of_a) : described(of_a);
    const unsigned long long b = kAcrossB ? described_across(of_b) : described(of_b);
    products_begin();
#pragma unroll
    for (int i = 0; i < kTileK / 16; ++i)
#pragma unroll
      for (int half = 0; half < kHalves; ++half)
        Product<kTileN, kAcrossA, kAcrossB>::add(sums[half], a + 512 * half + (kAcrossA ? 128 : 2) * i,
                                                 b + (kAcrossB ? 128 : 2) * i, chunk + i > 0);
    products_commit();
    products_wait<1>();
    if (before >= 0) give_back(shared, before);
    before = turn.stage;
  }
  if (OWN && !is_last) turn_pass(group);
  products_wait<0>();
  give_back(shared, before);
}

template <bool kAcrossA, bool kAcrossB>
static __device__ void multiply_tiles(const kd_arguments& a, const kd_tensor_maps& maps, const Shared& shared, int group,
                                      int block, unsigned first, unsigned step) {
  const Tiles tiles(a);
  const int chunks = int((a.dims[KD_DIM_K] + kTileK - 1) / kTileK);
  const bool by_copies = a.dims[KD_DIM_N] % 8 == 0 && (KD_ITEMS(a) == 1 || a.dims[KD_DIM_M] % 64 == 0);
  constexpr unsigned kEvery = OWN ? kGroups : 1;
  for (unsigned turn = OWN ? group : 0; first + turn * step < tiles.count; turn += kEvery) {
    float sums[kHalves][kTileN / 2];
    const bool is_last = first + (turn + 1) * step >= tiles.count;
    multiply_tile<kAcrossA, kAcrossB>(shared, sums, OWN ? 0 : 64 * group, chunks, turn, group, is_last);
    Place at = tiles.find(first + turn * step, block);
    if (!OWN) at.m += 64 * group;
    if (by_copies)
      store_by_copies(a, maps, shared.results + group * kHalves * kBytesOfHalf, sums, group, at);
    else
      store_by_threads(a, sums, at);
  }
  if (by_copies && threadIdx.x % 128 == 0) stores_read();
}

// What a kernel of kTileThreads threads does, in dynamic shared memory; `request_own` has all threads of the first
// warpgroup in the place of request_tiles where `arrivals` are not 1: so many for each stage.
template <bool kAcrossA, bool kAcrossB, class Request>
static __device__ void multiply(const kd_arguments& a, const kd_tensor_maps& maps, int arrivals, Request request_own) {
  extern __shared__ __align__(1024) unsigned char memory[];
  const Shared shared(shared_address(memory));
  const int group = threadIdx.x / 128, block = CLUSTER == 1 ? 0 : block_in_cluster();
  if (threadIdx.x == 0) {
    for (int i = 0; i < STAGES; ++i) {
      barrier_init(shared.full + 8 * i, arrivals);
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
    if (arrivals != 1)
      request_own(shared, block, first, step);
    else if (threadIdx.x == 0)
      request_tiles<kAcrossA, kAcrossB>(a, maps, shared, block, first, step);
  } else {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 232;");
    multiply_tiles<kAcrossA, kAcrossB>(a, maps, shared, group - 1, block, first, step);
  }
  if (CLUSTER > 1) cluster_meets();
}
#endif
