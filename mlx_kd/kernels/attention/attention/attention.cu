// clang-format off
// y = softmax(scale q k^T) v for each head, with limits, masks, biases and sinks.
//
// A cluster takes 8 of the G M query rows that share a key head; its blocks share the keys, and the warps of
// a block those of the block. Each keeps the largest score m of a row, the sum of exp(score - m) and the sums
// of values with these weights; warps are merged in shared memory, blocks through that of the cluster.
//
//   mlx_kd_attention             any widths and types: scores of a chunk of keys in shared memory, then sums
//   mlx_kd_attention_64, _128    of Dk = Dv, 16 bits, on tensor cores: a warp takes 16 keys. Scores are A B
//                                with the rows as A; the weights, which come out in the order in which they
//                                go in, are split in two numbers of 16 bits, in rows g and g + 8 of A.
//
// The score of a masked key is finite: if a row sees no key, all have the same weight.
//
// Grid: (blocks of a cluster, B Hk, blocks of 8 rows). Dynamic shared memory: 8 floats each for m and the sums
// of a block and of each warp, 8 x 256 scores or 8 rows of Dv floats of each warp, and 8 rows of Dv floats.
#ifndef WARPS
#define WARPS 8  // of a block
#endif
#ifndef KD_DIM_S
#define KD_DIM_S 0
#define KD_DIM_B 1
#define KD_DIM_Hq 2
#define KD_DIM_Hk 3
#define KD_DIM_M 4
#define KD_DIM_Dk 5
#define KD_DIM_Dv 6
#define KD_DIM_causal 7
#define KD_DIM_window 8
#define KD_DIM_has_mask 9
#define KD_DIM_has_sinks 10
#define KD_DIM_has_bias 11
#define KD_SCALAR_scale 0
#endif

#include "../../common/alone.cu.h"
#include "../../common/early.cu.h"
#include "../../common/kd_arguments.h"
#include "../../common/mma.cu.h"
#include "../../common/numbers.cu.h"

constexpr int kThreads = 32 * WARPS, kRows = 8, kKeep = 256;
constexpr int kMostParts = 16;  // blocks of a cluster
constexpr unsigned kAll = 0xffffffffu;
constexpr float kMasked = -8.507059e37f;
extern __shared__ float memory[];

static __device__ float infinity() {
  return __int_as_float(0x7f800000);
}

// exp(x - most); 0, or NaN for NaN, where no score is above -inf.
static __device__ float power_of(float x, float most) {
  return expf(x - (most == -infinity() ? 0.0f : most));
}

// The rows and keys of a block.
struct Block {
  const T *q, *k, *v;  // of the batch row and key head
  int b, key_head, group, first_row, rows, begin, end;
};

static __device__ Block block_of(const kd_arguments& a, int unit) {
  Block block;
  const int parts = gridDim.x, S = (int)a.dims[KD_DIM_S], Hk = (int)a.dims[KD_DIM_Hk];
  block.group = (int)a.dims[KD_DIM_Hq] / Hk;
  block.b = blockIdx.y / Hk;
  block.key_head = blockIdx.y % Hk;
  block.first_row = blockIdx.z * kRows;
  block.rows = min(kRows, block.group * (int)a.dims[KD_DIM_M] - block.first_row);
  const long units = (S + unit - 1) / unit;
  block.begin = (int)(units * blockIdx.x / parts) * unit;
  block.end = min(S, (int)(units * (blockIdx.x + 1) / parts) * unit);
  block.q = (const T*)a.inputs[0] + block.b * a.strides[0][0];
  block.k = (const T*)a.inputs[1] + block.b * a.strides[1][0] + block.key_head * a.strides[1][1];
  block.v = (const T*)a.inputs[2] + block.b * a.strides[2][0] + block.key_head * a.strides[2][1];
  return block;
}

static __device__ int head_of(const Block& block, int row) {
  return block.key_head * block.group + (block.first_row + row) % block.group;
}

static __device__ int query_of(const Block& block, int row) {
  return (block.first_row + row) / block.group;
}

static __device__ const T* row_of(const kd_arguments& a, const Block& block, int row) {
  return block.q + head_of(block, row) * a.strides[0][1] + query_of(block, row) * a.strides[0][2];
}

// What a score becomes by the bias, the mask and the limits.
static __device__ float limited(const kd_arguments& a, const Block& block, int row, int key, float score) {
  const int h = head_of(block, row), t = query_of(block, row), window = (int)a.dims[KD_DIM_window];
  const int at = (int)a.dims[KD_DIM_S] - (int)a.dims[KD_DIM_M] + t;
  if (a.dims[KD_DIM_has_bias])
    score += widen(((const T*)a.inputs[5])[block.b * a.strides[5][0] + h * a.strides[5][1] + t * a.strides[5][2] + key]);
  bool sees = !(a.dims[KD_DIM_causal] && key > at) && !(window > 0 && key <= at - window);
  if (a.dims[KD_DIM_has_mask])
    sees = sees && ((const bool*)a.inputs[3])[block.b * a.strides[3][0] + h * a.strides[3][1] + t * a.strides[3][2] + key];
  return sees ? score : kMasked;
}

static __device__ bool has_limits(const kd_arguments& a) {
  return a.dims[KD_DIM_has_bias] || a.dims[KD_DIM_has_mask] || a.dims[KD_DIM_window] > 0 ||
         (a.dims[KD_DIM_causal] && a.dims[KD_DIM_M] > 1);
}

// What a block has of its rows, in shared memory.
struct Part {
  float *most, *powers;  // (kRows)
  float* sums;           // (kRows, Dv)
};

static __device__ Part part_of(float* memory) {
  return {memory, memory + kRows, memory + 2 * kRows};
}

static __device__ unsigned shared_of(const void* at, unsigned rank) {
  unsigned address;
  asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(address) : "r"((unsigned)__cvta_generic_to_shared(at)), "r"(rank));
  return address;
}

static __device__ float load_from(unsigned address) {
  float value;
  asm volatile("ld.shared::cluster.f32 %0, [%1];" : "=f"(value) : "r"(address));
  return value;
}

static __device__ void meet_cluster() {
  asm volatile("barrier.cluster.arrive.aligned;\nbarrier.cluster.wait.aligned;" ::: "memory");
}

// Merges the blocks of the cluster; each writes some of the results.
static __device__ void merge_blocks(const kd_arguments& a, const Block& block, const Part& part) {
  const int parts = gridDim.x, Dv = (int)a.dims[KD_DIM_Dv], M = (int)a.dims[KD_DIM_M];
  meet_cluster();
#pragma unroll 1
  for (int i = blockIdx.x * kThreads + threadIdx.x; i < block.rows * Dv; i += parts * kThreads) {
    const int row = i / Dv, column = i % Dv;
    const float sink = a.dims[KD_DIM_has_sinks] ? widen(((const T*)a.inputs[4])[head_of(block, row)]) : -infinity();
    float most = sink, powers = 0.0f, sum = 0.0f;
    float all_most[kMostParts], all_powers[kMostParts], all_sums[kMostParts];
#pragma unroll
    for (int p = 0; p < kMostParts; ++p) {  // all are under way before the first is needed
      all_most[p] = p < parts ? load_from(shared_of(part.most + row, p)) : -infinity();
      all_powers[p] = p < parts ? load_from(shared_of(part.powers + row, p)) : 0.0f;
      all_sums[p] = p < parts ? load_from(shared_of(part.sums + i, p)) : 0.0f;
    }
#pragma unroll
    for (int p = 0; p < kMostParts; ++p) most = fmaxf(most, all_most[p]);
    if (a.dims[KD_DIM_has_sinks]) powers = power_of(sink, most);
#pragma unroll
    for (int p = 0; p < kMostParts; ++p) {
      if (p >= parts) break;
      const float factor = power_of(all_most[p], most);
      powers += factor * all_powers[p];
      sum += factor * all_sums[p];
    }
    const long head = (long)block.b * a.dims[KD_DIM_Hq] + head_of(block, row);
    ((T*)a.outputs[0])[(head * M + query_of(block, row)) * Dv + column] = narrow(sum / powers);
  }
  meet_cluster();
}

// Any widths and strides. `scores` (kRows, kKeep).
static __device__ void add_keys(const kd_arguments& a, const Block& block, const Part& part, float* scores) {
  const int Dk = (int)a.dims[KD_DIM_Dk], Dv = (int)a.dims[KD_DIM_Dv], lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const float scale = (float)a.scalars[KD_SCALAR_scale];
  __shared__ float factors[kRows];
  for (int i = threadIdx.x; i < kRows * Dv; i += kThreads) part.sums[i] = 0.0f;
  if (threadIdx.x < kRows) part.most[threadIdx.x] = -infinity(), part.powers[threadIdx.x] = 0.0f;
  for (int from = block.begin; from < block.end; from += kKeep) {
    const int count = min(kKeep, block.end - from);
    __syncthreads();
    for (int j = warp; j < count; j += WARPS) {
      const T* const key = block.k + (from + j) * a.strides[1][2];
      float sums[kRows] = {};
      for (int d = lane; d < Dk; d += 32)
#pragma unroll
        for (int r = 0; r < kRows; ++r)
          if (r < block.rows) sums[r] += widen(row_of(a, block, r)[d]) * widen(key[d]);
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        for (int other = 16; other > 0; other /= 2) sums[r] += __shfl_xor_sync(kAll, sums[r], other);
        if (lane == 0 && r < block.rows) scores[r * kKeep + j] = limited(a, block, r, from + j, sums[r] * scale);
      }
    }
    __syncthreads();
    for (int r = warp; r < block.rows; r += WARPS) {
      float most = part.most[r], powers = 0.0f;
      for (int j = lane; j < count; j += 32) most = fmaxf(most, scores[r * kKeep + j]);
      for (int other = 16; other > 0; other /= 2) most = fmaxf(most, __shfl_xor_sync(kAll, most, other));
      for (int j = lane; j < count; j += 32) powers += scores[r * kKeep + j] = power_of(scores[r * kKeep + j], most);
      for (int other = 16; other > 0; other /= 2) powers += __shfl_xor_sync(kAll, powers, other);
      __syncwarp();
      if (lane == 0) {
        factors[r] = power_of(part.most[r], most);
        part.powers[r] = part.powers[r] * factors[r] + powers;
        part.most[r] = most;
      }
    }
    __syncthreads();
    for (int d = threadIdx.x; d < Dv; d += kThreads) {
      float sums[kRows];
      for (int r = 0; r < block.rows; ++r) sums[r] = part.sums[r * Dv + d] * factors[r];
      for (int j = 0; j < count; ++j) {
        const float value = widen(block.v[(from + j) * a.strides[2][2] + d]);
        for (int r = 0; r < block.rows; ++r) sums[r] += scores[r * kKeep + j] * value;
      }
      for (int r = 0; r < block.rows; ++r) part.sums[r * Dv + d] = sums[r];
    }
  }
}

static __device__ void attend_any(const kd_arguments& a) {
  wait_for_others();
  const Block block = block_of(a, 1);
  const Part part = part_of(memory);
  add_keys(a, block, part, part.sums + kRows * a.dims[KD_DIM_Dv]);
  merge_blocks(a, block, part);
}

#if KD_DTYPE == 0
template <int kWidth>
static __device__ void add_blocks(const kd_arguments& a, const Block& block, const Part& part, float* rest) {
  add_keys(a, block, part, rest);
}
#else
static __device__ uint4 load_pack(const T* from) {
  return __ldg((const uint4*)from);
}

static __device__ unsigned word_of(const uint4& pack, int i) {
  return i == 0 ? pack.x : i == 1 ? pack.y : i == 2 ? pack.z : pack.w;
}

// Two weights as two pairs of numbers of 16 bits, whose sums they are.
static __device__ void split(float x, float y, unsigned& high, unsigned& low) {
  const T hx = narrow(x), hy = narrow(y);
  high = hx | (unsigned)hy << 16;
  low = narrow(x - widen(hx)) | (unsigned)narrow(y - widen(hy)) << 16;
}

static __device__ float over_quad_most(float x) {
  x = fmaxf(x, __shfl_xor_sync(kAll, x, 1));
  return fmaxf(x, __shfl_xor_sync(kAll, x, 2));
}

// kWidth = Dk = Dv. Lane (g, quad) has row g; of keys, columns quad * 8 of each 32; of values, those of keys
// 2 quad, 2 quad + 1, and 8 more, and columns g * 8 of each 64.
template <int kWidth>
static __device__ void add_blocks(const kd_arguments& a, const Block& block, const Part& part, float* rest) {
  constexpr int kPacks = kWidth / 32, kBlocks = kWidth / 64;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, quad = lane % 4;
  const long k_stride = a.strides[1][2], v_stride = a.strides[2][2];
  const bool limits = has_limits(a);
  const float scale = (float)a.scalars[KD_SCALAR_scale];
  unsigned q[kPacks][4] = {};
  if (g < block.rows) {
#pragma unroll
    for (int p = 0; p < kPacks; ++p) {
      const uint4 pack = load_pack(row_of(a, block, g) + p * 32 + quad * 8);
      q[p][0] = pack.x, q[p][1] = pack.y, q[p][2] = pack.z, q[p][3] = pack.w;
    }
  }
  float most = -infinity(), powers = 0.0f, sums[kBlocks][8][4] = {};
  for (int from = block.begin + warp * 16; from < block.end; from += WARPS * 16) {
    uint4 keys[2][kPacks], values[4][kBlocks];
#pragma unroll
    for (int n = 0; n < 2; ++n) {
      const T* const key = block.k + min(from + n * 8 + g, block.end - 1) * k_stride + quad * 8;
#pragma unroll
      for (int p = 0; p < kPacks; ++p) keys[n][p] = load_pack(key + p * 32);
    }
#pragma unroll
    for (int n = 0; n < 4; ++n) {
      const T* const value = block.v + min(from + n / 2 * 8 + 2 * quad + n % 2, block.end - 1) * v_stride + g * 8;
#pragma unroll
      for (int j = 0; j < kBlocks; ++j) values[n][j] = load_pack(value + j * 64);
    }
    float scores[2][4] = {};
#pragma unroll
    for (int p = 0; p < kPacks; ++p)
#pragma unroll
      for (int n = 0; n < 2; ++n) {
        multiply_add(scores[n], q[p][0], 0, q[p][1], 0, keys[n][p].x, keys[n][p].y);
        multiply_add(scores[n], q[p][2], 0, q[p][3], 0, keys[n][p].z, keys[n][p].w);
      }
    float weights[4], step_most = -infinity();
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int key = from + i / 2 * 8 + 2 * quad + i % 2;
      weights[i] = scores[i / 2][i % 2] * scale;
      if (limits && key < block.end && g < block.rows) weights[i] = limited(a, block, g, key, weights[i]);
      if (key >= block.end) weights[i] = -infinity();
      step_most = fmaxf(step_most, weights[i]);
    }
    const float larger = fmaxf(most, over_quad_most(step_most));
    if (__any_sync(kAll, larger > most)) {
      const float factor = power_of(most, larger);
      powers *= factor;
#pragma unroll
      for (int j = 0; j < kBlocks; ++j)
#pragma unroll
        for (int e = 0; e < 8; ++e)
#pragma unroll
          for (int i = 0; i < 4; ++i) sums[j][e][i] *= factor;
      most = larger;
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) powers += weights[i] = power_of(weights[i], most);
    unsigned p[4];
    split(weights[0], weights[1], p[0], p[1]);
    split(weights[2], weights[3], p[2], p[3]);
#pragma unroll
    for (int j = 0; j < kBlocks; ++j)
#pragma unroll
      for (int e = 0; e < 8; ++e) {
        const unsigned order = e % 2 ? 0x7632 : 0x5410;
        multiply_add(sums[j][e], p[0], p[1], p[2], p[3],
                     __byte_perm(word_of(values[0][j], e / 2), word_of(values[1][j], e / 2), order),
                     __byte_perm(word_of(values[2][j], e / 2), word_of(values[3][j], e / 2), order));
      }
  }
  powers += __shfl_xor_sync(kAll, powers, 1);
  powers += __shfl_xor_sync(kAll, powers, 2);
  // Of each warp: most, powers, and sums, whose columns a lane has in pairs: 16 quad + {0, 8} + e of each 64.
  float* const warp_most = rest;
  float* const warp_powers = rest + WARPS * kRows;
  float* const warp_sums = rest + 2 * WARPS * kRows;
  if (quad == 0) warp_most[warp * kRows + g] = most, warp_powers[warp * kRows + g] = powers;
#pragma unroll
  for (int j = 0; j < kBlocks; ++j)
#pragma unroll
    for (int e = 0; e < 8; ++e) {
      float* const to = warp_sums + (warp * kRows + g) * kWidth + j * 64 + 16 * quad + e;
      to[0] = sums[j][e][0] + sums[j][e][2];
      to[8] = sums[j][e][1] + sums[j][e][3];
    }
  __syncthreads();
  for (int i = threadIdx.x; i < block.rows * kWidth; i += kThreads) {
    const int row = i / kWidth;
    float of_all = -infinity(), all_powers = 0.0f, sum = 0.0f;
#pragma unroll
    for (int w = 0; w < WARPS; ++w) of_all = fmaxf(of_all, warp_most[w * kRows + row]);
#pragma unroll
    for (int w = 0; w < WARPS; ++w) {
      const float factor = power_of(warp_most[w * kRows + row], of_all);
      all_powers += factor * warp_powers[w * kRows + row];
      sum += factor * warp_sums[w * kRows * kWidth + i];
    }
    part.sums[i] = sum;
    if (i % kWidth == 0) part.most[row] = of_all, part.powers[row] = all_powers;
  }
}
#endif

static __device__ bool is_aligned(const kd_arguments& a) {
  long all = 0;
  for (int i = 0; i < 9; ++i) all |= a.strides[i / 3][i % 3];
  return all % 8 == 0;
}

// The keys, or the values, of a block whose rows lie one after the other.
static __device__ void bring_keys(const kd_arguments& a, const Block& block, int port, int width) {
  if (a.strides[port][2] == width && block.end > block.begin)
    bring_near((port == 1 ? block.k : block.v) + block.begin * width, (block.end - block.begin) * width * sizeof(T));
}

template <int kWidth>
static __device__ void attend(const kd_arguments& a) {
  const Block block = block_of(a, 16);
  if (threadIdx.x < 2 && is_aligned(a)) bring_keys(a, block, 1 + threadIdx.x, kWidth);
  wait_for_others();
  const Part part = part_of(memory);
  float* const rest = part.sums + kRows * kWidth;
  if (is_aligned(a)) add_blocks<kWidth>(a, block, part, rest);
  else add_keys(a, block, part, rest);
  merge_blocks(a, block, part);
}

#define KD_KERNEL(name, call)                                                              \
  KD_WHERE_WANTED(name, extern "C" __global__ void __launch_bounds__(kThreads)             \
                            name(const __grid_constant__ kd_arguments a) { call(a); })
KD_KERNEL(mlx_kd_attention, attend_any)
KD_KERNEL(mlx_kd_attention_64, attend<64>)
KD_KERNEL(mlx_kd_attention_128, attend<128>)
