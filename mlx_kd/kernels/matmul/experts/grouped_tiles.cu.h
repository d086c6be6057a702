// clang-format off
// Products of the tiles of grouped.cu.h on tensor cores (sm_90a), of 16 bits. The rows of W are those of the first
// operand, the slots of a tile the columns of the second: 32, 64, 80 or 96 of them, as many as the tile has.
//
// A block stays for many units: a tile, and 256 rows of W (of a gated form 128 of each matrix). One thread of its first
// warpgroup requests the rows of x, of W and the sums of x by bulk copies, STAGES ahead. Two warpgroups multiply 64 rows
// of W twice each: neighbours, or those of the gate and of up, which meet in the same thread.
//
// W of numbers is multiplied from shared memory. Codes go through registers, where the place of a code alone makes a
// number of it (codes.cu.h); rows of x are in the order of the codes. The sum over the columns that have one scale is
// scaled, and the bias of each column counted by the sums of x, in float.
#pragma once
#include "../../common/kd_tensor_maps.h"
#include "../../common/warpgroups.cu.h"
#include "grouped_rows.cu.h"

#ifndef STAGES
#define STAGES 4  // of shared memory
#endif

// --- tensor cores -----------------------------------------------------------------------------

#if KD_DTYPE != 0 && defined(__CUDA_ARCH_FEAT_SM90_ALL)
constexpr int kWarpgroups = 2, kHalves = 2, kHalfRows = 64, kTileThreads = 128 * (1 + kWarpgroups);
constexpr int kUnitRows = kWarpgroups * kHalves * kHalfRows / kMatrices;  // of each matrix
constexpr int kDepth = QUANTISED ? 128 : 64;                              // columns of a stage
constexpr int kHalfBytes = QUANTISED ? kHalfRows * kDepth / 2 : kHalfRows * kDepth * 2;  // of W
constexpr int kSlotBytes = kMostTokens * 128;                             // 64 columns of x
constexpr int kBytesOfX = kDepth / 64 * kSlotBytes, kBytesOfW = kWarpgroups * kHalves * kHalfBytes;
constexpr int kMostGroups = 4;                                            // of columns of a stage
constexpr int kSumBytes = QUANTISED ? 2048 : 0;                           // kMostGroups times kMostTokens floats
constexpr int kStageBytes = kBytesOfX + kBytesOfW + kSumBytes, kResultBytes = kMostTokens * 128;
constexpr int kCopy = 16, kWideCopy = 64;                                 // slots of a copy
enum { kMapX, kMapWideX, kMapW };

struct Shared {
  unsigned stages, results, full, empty;
  __device__ explicit Shared(unsigned at) {
    stages = at;
    results = stages + STAGES * kStageBytes;
    full = results + kWarpgroups * kResultBytes;
    empty = full + 8 * STAGES;
  }
  __device__ unsigned x(int stage, int columns) const { return stages + stage * kStageBytes + columns / 64 * kSlotBytes; }
  // 64 rows of W: those of the gate lie before those of up.
  static __device__ int part(int group, int half) { return KD_FORM == 1 ? half * kWarpgroups + group : group * kHalves + half; }
  __device__ unsigned w(int stage, int part) const { return stages + stage * kStageBytes + kBytesOfX + part * kHalfBytes; }
  __device__ unsigned sums(int stage, int group) const { return w(stage, kWarpgroups * kHalves) + group * (kMostTokens * 4); }
};

// A place in the ring of stages.
struct Turn {
  int stage = 0, parity = 0;
  __device__ void next() {
    if (++stage == STAGES) stage = 0, parity ^= 1;
  }
};

// Columns of the second operand for so many slots.
static __device__ int width_of(int count) {
  return count <= 32 ? 32 : count <= 64 ? 64 : count <= 80 ? 80 : 96;
}

// A tile and rows of W.
struct Unit {
  ExpertTile tile;
  long first;  // of each matrix

  // The row of W, of its matrix, with which half `half` of a warpgroup begins.
  __device__ long row(int group, int half) const {
    return first + (KD_FORM == 1 ? group * kHalfRows : (group * kHalves + half) * kHalfRows);
  }
  static __device__ int matrix(int half) { return KD_FORM == 1 ? half : 0; }
};

struct Units {
  const ExpertTile* tiles;
  unsigned across, count;
  __device__ Units(const kd_arguments& a, const Groups& groups)
      : tiles(groups.tiles), across(unsigned((a.dims[KD_DIM_N] + kUnitRows - 1) / kUnitRows)), count(*groups.count * across) {}
  __device__ Unit at(unsigned i) const { return {tiles[i / across], long(i % across) * kUnitRows}; }
};

// By one thread, which is the slower the more requests there are. kGroup: columns that have one scale.
template <int kGroup>
static __device__ void request_units(const kd_arguments& a, const kd_tensor_maps& maps, const Shared& shared) {
  const Groups groups(a);
  const Units units(a, groups);
  const int chunks = (int)(a.dims[KD_DIM_K] + kDepth - 1) / kDepth, N = (int)a.dims[KD_DIM_N];
  constexpr int kGroups = QUANTISED ? kDepth / kGroup : 0, kWordsOfW = QUANTISED ? kDepth / 8 : kDepth;
  Turn turn;
  for (unsigned i = blockIdx.x; i < units.count; i += gridDim.x) {
    const Unit unit = units.at(i);
    const int width = width_of(unit.tile.count), row = unit.tile.expert * N + (int)unit.first, slot = unit.tile.first;
    const int bytes = width * (kDepth * 2 + kGroups * 4) + kBytesOfW, begin = width < kWideCopy ? 0 : kWideCopy;
    const float* sums = (const float*)a.scratch[2] + slot;
    for (int chunk = 0; chunk < chunks; ++chunk, turn.next()) {
      const unsigned full = shared.full + 8 * turn.stage;
      barrier_wait(shared.empty + 8 * turn.stage, turn.parity ^ 1);
      barrier_expect(full, bytes);
#pragma unroll
      for (int matrix = 0; matrix < kMatrices; ++matrix)
        load_tile(shared.w(turn.stage, matrix * kWarpgroups), &maps.of[kMapW + matrix], chunk * kWordsOfW, row, full);
#pragma unroll
      for (int k = 0; k < kDepth; k += 64) {
        const unsigned to = shared.x(turn.stage, k);
        const int column = chunk * kDepth + k;
        if (begin > 0) load_tile(to, &maps.of[kMapWideX], column, slot, full);
        for (int at = begin; at < width; at += kCopy) load_tile(to + at * 128, &maps.of[kMapX], column, slot + at, full);
      }
#pragma unroll
      for (int group = 0; group < kGroups; ++group, sums += groups.slots)
        load_bytes(shared.sums(turn.stage, group), sums, width * 4, full);
    }
  }
}

static __device__ void give_back(const Shared& shared, int stage) {
  __syncwarp();
  if (threadIdx.x % 32 == 0) barrier_arrive(shared.empty + 8 * stage);
}

#if QUANTISED
// Scales and biases of a stage: of two rows of each half, as they lie.
template <class F>
struct Scales {
  static constexpr int kGroups = kDepth / F::kGroup, kBytes = kGroups * (F::kIsAffine ? 2 : 1);
  static constexpr int kWords = (kBytes + 3) / 4;
  unsigned scales[kHalves][2][kWords], biases[kHalves][2][kWords];

  static __device__ void load_row(unsigned (&to)[kWords], const void* from) {
    if constexpr (kBytes == 8) {
      const uint2 two = __ldg((const uint2*)from);
      to[0] = two.x, to[kWords - 1] = two.y;
    } else if constexpr (kBytes == 4) to[0] = __ldg((const unsigned*)from);
    else to[0] = __ldg((const unsigned short*)from);
  }
  __device__ void load(const kd_arguments& a, const Unit& unit, int group, int chunk) {
    const long N = a.dims[KD_DIM_N], row_bytes = a.dims[KD_DIM_K] / kDepth * kBytes;
    const int own = threadIdx.x % 128 / 32 * 16 + threadIdx.x % 32 / 4;
#pragma unroll
    for (int half = 0; half < kHalves; ++half)
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const long row = unit.tile.expert * N + min(unit.row(group, half) + own + 8 * i, N - 1);
        const void* const* const arrays = a.inputs + kFirst + kPerMatrix * Unit::matrix(half);
        load_row(scales[half][i], (const char*)arrays[1] + row * row_bytes + chunk * kBytes);
        if constexpr (F::kIsAffine) load_row(biases[half][i], (const char*)arrays[2] + row * row_bytes + chunk * kBytes);
      }
  }
  __device__ float scale(int half, int i, int group) const {
    if constexpr (F::kIsAffine) return widen((T)(scales[half][i][group / 2] >> 16 * (group % 2)));
    else return power_of_two(scales[half][i][0] >> 8 * group & 255);
  }
  // The factor of the sum of x: products are of 16 + code, and 16 scale goes off the bias for it.
  __device__ float offset(int half, int i, int group) const {
    return widen((T)(biases[half][i][group / 2] >> 16 * (group % 2))) - 16.0f * scale(half, i, group);
  }
};

// A word of codes of row `row` of 64: of lane % 4, in block `block` of 32 columns of a stage.
static __device__ unsigned word_of(unsigned half, int row, int block) {
  unsigned word;
  const unsigned at = half + row * 64 + ((block ^ (row / 2 % 4)) * 16) + threadIdx.x % 4 * 4;
  asm volatile("ld.shared.b32 %0, [%1];" : "=r"(word) : "r"(at) : "memory");
  return word;
}

static __device__ float2 two_sums(unsigned at) {
  float2 two;
  asm volatile("ld.shared.v2.f32 {%0, %1}, [%2];" : "=f"(two.x), "=f"(two.y) : "r"(at) : "memory");
  return two;
}

// Added to `sums`, which are zeros.
template <class F, int kWidth>
static __device__ void multiply_unit(const kd_arguments& a, const Shared& shared, const Unit& unit, int group, int chunks,
                                     Turn& turn, float (&sums)[kHalves][kWidth / 2]) {
  constexpr int kGroups = kDepth / F::kGroup, kBlocks = F::kGroup / 32;
  const int quad = threadIdx.x % 4, row = threadIdx.x % 128 / 32 * 16 + threadIdx.x % 32 / 4;
  Scales<F> scales, next;
  scales.load(a, unit, group, 0);
  for (int chunk = 0; chunk < chunks; ++chunk, turn.next()) {
    next.load(a, unit, group, min(chunk + 1, chunks - 1));
    barrier_wait(shared.full + 8 * turn.stage, turn.parity);
#pragma unroll
    for (int g = 0; g < kGroups; ++g)
#pragma unroll
      for (int half = 0; half < kHalves; ++half) {
        const unsigned codes = shared.w(turn.stage, Shared::part(group, half));
        unsigned numbers_of[2 * kBlocks][4];
#pragma unroll
        for (int block = 0; block < kBlocks; ++block) {
          const unsigned top = word_of(codes, row, g * kBlocks + block), low = word_of(codes, row + 8, g * kBlocks + block);
          numbers_of[2 * block][0] = numbers<F, 0>(top), numbers_of[2 * block][1] = numbers<F, 0>(low);
          numbers_of[2 * block][2] = numbers<F, 1>(top), numbers_of[2 * block][3] = numbers<F, 1>(low);
          numbers_of[2 * block + 1][0] = numbers<F, 2>(top), numbers_of[2 * block + 1][1] = numbers<F, 2>(low);
          numbers_of[2 * block + 1][2] = numbers<F, 3>(top), numbers_of[2 * block + 1][3] = numbers<F, 3>(low);
        }
        float products[kWidth / 2];
        products_begin();
#pragma unroll
        for (int step = 0; step < 2 * kBlocks; ++step) {
          const int column = g * F::kGroup + 16 * step;
          Product<kWidth>::add_registers(products, numbers_of[step],
                                         described(shared.x(turn.stage, column)) + column % 64 / 8, step > 0);
        }
        products_commit();
        products_wait<0>();
        hold(products);
        const float top = scales.scale(half, 0, g), low = scales.scale(half, 1, g);
        if constexpr (F::kIsAffine) {
          const float of_top = scales.offset(half, 0, g), of_low = scales.offset(half, 1, g);
#pragma unroll
          for (int j = 0; j < kWidth / 8; ++j) {
            const float2 of_x = two_sums(shared.sums(turn.stage, g) + (8 * j + 2 * quad) * 4);
            sums[half][4 * j] += of_top * of_x.x, sums[half][4 * j + 1] += of_top * of_x.y;
            sums[half][4 * j + 2] += of_low * of_x.x, sums[half][4 * j + 3] += of_low * of_x.y;
          }
        }
#pragma unroll
        for (int i = 0; i < kWidth / 2; ++i) sums[half][i] += (i % 4 < 2 ? top : low) * products[i];
      }
    give_back(shared, turn.stage);
    scales = next;
  }
}
#else
template <class F, int kWidth>
static __device__ void multiply_unit(const kd_arguments&, const Shared& shared, const Unit&, int group, int chunks, Turn& turn,
                                     float (&sums)[kHalves][kWidth / 2]) {
  for (int chunk = 0; chunk < chunks; ++chunk, turn.next()) {
    barrier_wait(shared.full + 8 * turn.stage, turn.parity);
    const unsigned long long x = described(shared.x(turn.stage, 0));
    products_begin();
#pragma unroll
    for (int step = 0; step < kDepth / 16; ++step)
#pragma unroll
      for (int half = 0; half < kHalves; ++half)
        Product<kWidth>::add(sums[half], described(shared.w(turn.stage, Shared::part(group, half))) + 2 * step, x + 2 * step, 1);
    products_commit();
    products_wait<0>();  // meanwhile the other warpgroup multiplies
#pragma unroll
    for (int half = 0; half < kHalves; ++half) hold(sums[half]);
    give_back(shared, turn.stage);
  }
}
#endif

// 64 rows of W of the slots of a tile into shared memory, a slot's one after the other, then to y.
template <int kWidth, class Result>
static __device__ void put_half(const kd_arguments& a, const Groups& groups, const Unit& unit, unsigned results, int group,
                                long first, Result result) {
  const int thread = threadIdx.x % 128, warp = thread / 32, lane = thread % 32;
  const long N = a.dims[KD_DIM_N], row = first + 16 * warp + lane / 4;
  group_meets(group);
#pragma unroll
  for (int j = 0; j < kWidth / 8; j += 2) {
    unsigned pairs[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int at = 4 * (j + i / 2) + i % 2 * 2;
      const long n = min(row + i % 2 * 8, N - 1);
      pairs[i] = (unsigned)result(at, n) | (unsigned)result(at + 1, n) << 16;
    }
    const int slot = 8 * (j + lane / 16) + lane % 8, place = (2 * warp + lane / 8 % 2) ^ slot % 8;
    asm volatile("stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(results + slot * 128 + place * 16),
                 "r"(pairs[0]), "r"(pairs[1]), "r"(pairs[2]), "r"(pairs[3])
                 : "memory");
  }
  group_meets(group);
  const long column = first + thread % 8 * 8;
  for (int slot = thread / 8; slot < unit.tile.count; slot += 16) {
    Pack pack;
    asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(pack.bits.x), "=r"(pack.bits.y), "=r"(pack.bits.z), "=r"(pack.bits.w)
                 : "r"(results + slot * 128 + (thread % 8 ^ slot % 8) * 16)
                 : "memory");
    T* const y = (T*)a.outputs[0] + groups.pairs[unit.tile.first + slot] * N;
    if (N % 8 == 0 && column < N) *(uint4*)(y + column) = pack.bits;
    else
#pragma unroll
      for (int v = 0; v < 8; ++v)
        if (column + v < N) y[column + v] = pack.at[v];
  }
}

template <class F, int kWidth>
static __device__ void finish_unit(const kd_arguments& a, const Shared& shared, const Groups& groups, const Unit& unit,
                                   int group, int chunks, Turn& turn) {
  float sums[kHalves][kWidth / 2] = {};
  multiply_unit<F, kWidth>(a, shared, unit, group, chunks, turn, sums);
  const unsigned results = shared.results + group * kResultBytes;
#pragma unroll
  for (int half = 0; half < kHalves / kMatrices; ++half)
    put_half<kWidth>(a, groups, unit, results, group, unit.row(group, half), [&](int at, long n) {
      return result_of(a, sums[half][at], sums[kHalves - 1][at], unit.tile.expert, n);
    });
}

template <class F>
static __device__ void multiply_units(const kd_arguments& a, const Shared& shared, int group) {
  const Groups groups(a);
  const Units units(a, groups);
  const int chunks = (int)(a.dims[KD_DIM_K] + kDepth - 1) / kDepth;
  Turn turn;
  for (unsigned i = blockIdx.x; i < units.count; i += gridDim.x) {
    const Unit unit = units.at(i);
    switch (width_of(unit.tile.count)) {
      case 32: finish_unit<F, 32>(a, shared, groups, unit, group, chunks, turn); break;
      case 64: finish_unit<F, 64>(a, shared, groups, unit, group, chunks, turn); break;
      case 80: finish_unit<F, 80>(a, shared, groups, unit, group, chunks, turn); break;
      default: finish_unit<F, 96>(a, shared, groups, unit, group, chunks, turn);
    }
  }
}

template <class F, int kGroup>
static __device__ void multiply_tiles(const kd_arguments& a, const kd_tensor_maps& maps) {
  extern __shared__ __align__(1024) unsigned char memory[];
  const Shared shared(shared_address(memory));
  if (threadIdx.x == 0) {
    for (int i = 0; i < STAGES; ++i) {
      barrier_init(shared.full + 8 * i, 1);
      barrier_init(shared.empty + 8 * i, 4 * kWarpgroups);
    }
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    fence_copies();
  }
  __syncthreads();
  wait_for_others();
  if (threadIdx.x < 128) {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 40;");
    if (threadIdx.x == 0) request_units<kGroup>(a, maps, shared);
  } else {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 232;");
    multiply_units<F>(a, shared, threadIdx.x / 128 - 1);
  }
}
#define KD_TILES(name, F, group)                                                                           \
  KD_WHERE_WANTED(name, extern "C" __global__ void __launch_bounds__(kTileThreads, 1)                      \
                            name(const __grid_constant__ kd_arguments a, const __grid_constant__ kd_tensor_maps maps) { \
                              multiply_tiles<F, group>(a, maps);                                           \
                            })
#else
#define KD_TILES(name, F, group)
#endif

#if QUANTISED
using Affine32 = Format<4, 32, kAffine>;
using Affine64 = Format<4, 64, kAffine>;
using Affine128 = Format<4, 128, kAffine>;
using Small32 = Format<4, 32, kMxfp4>;
#define KD_GROUPED_KERNELS(name)                                                                                  \
  KD_GROUPING_KERNELS(name)                                                                                       \
  KD_WHERE_WANTED(name##_rows, extern "C" __global__ void __launch_bounds__(kRowThreads)                          \
                                   name##_rows(const __grid_constant__ kd_arguments a) { wait_for_others(); prepare_slots(a); }) \
  KD_TILES(name##_4_32, Affine32, 32)                                                                             \
  KD_TILES(name##_4_64, Affine64, 64)                                                                             \
  KD_TILES(name##_4_128, Affine128, 128)                                                                          \
  KD_TILES(name##_mxfp4, Small32, 32)
#else
struct Dense {};
#define KD_GROUPED_KERNELS(name)                                                                                  \
  KD_GROUPING_KERNELS(name)                                                                                       \
  KD_WHERE_WANTED(name##_rows, extern "C" __global__ void __launch_bounds__(kRowThreads)                          \
                                   name##_rows(const __grid_constant__ kd_arguments a) { wait_for_others(); copy_rows(a); }) \
  KD_TILES(name##_tiles, Dense, 64)
#endif
