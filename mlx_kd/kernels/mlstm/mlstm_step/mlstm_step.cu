// mlstm_step: one token of mLSTM. c_next is c, updated in place.
//
// A group takes COLUMNS columns of the memory of a head: its threads go through the rows, each with the same few
// columns, request ROWS of them before they use the first, and add up h, and what q reads of n. A head's first group
// writes n and m. Functions: _4 reads four floats at a time, mlx_kd_mlstm_step one (if DHHV is not a multiple of
// 4).
//
// Grid: groups of THREADS threads: heads in x, blocks of COLUMNS in y.
#ifndef KD_DTYPE
#define KD_DTYPE 0  // of q, k, v and h: 0 float32, 1 float16, 2 bfloat16
#endif
#ifndef THREADS
#define THREADS 256  // of a group
#endif
#ifndef COLUMNS
#define COLUMNS 32  // of a group
#endif
#ifndef ROWS
#define ROWS 8  // in flight in a thread
#endif

#include "../../common/kd_arguments.h"
#include "../../common/numbers.cu.h"
#include "../gates.cu.h"

#ifndef KD_DIM_DHQK
#define KD_DIM_DHQK 1
#define KD_DIM_DHHV 2
#define KD_DIM_siging 3
#define KD_DIM_normalize 4
#define KD_SCALAR_eps 0
#endif

struct Token {
  float past, share, m, floor;
};
// The weights belong to m as it is stored.
static __device__ Token token_of(float i, float f, float m, bool sigmoid) {
  const float log_f = log_sigmoid(f);
  if (sigmoid) return {expf(log_f), expf(log_sigmoid(i)), 0.0f, 1.0f};
  const bool drops = log_f == -infinity();
  if (i == infinity()) return {0.0f, 1.0f, i, 0.0f};
  if (m == infinity() && (!drops || i == -infinity())) return {drops ? 0.0f : 1.0f, 0.0f, m, 0.0f};
  const Pair from_m = drops ? Pair{-infinity(), 0.0f} : added(Pair{m, 0.0f}, log_f);
  if (from_m.high == -infinity() && i == -infinity()) return {0.0f, 0.0f, m, expf(-m)};
  const float next = is_above(Pair{i, 0.0f}, from_m) || is_nan(i) ? i : from_m.high;
  const Pair apart = added(from_m, -next);
  return {expf(apart.high + apart.rest), expf(i - next), next, expf(-next)};
}

// Columns that a thread takes together.
template <int kWide>
struct alignas(4 * kWide) Columns {
  float at[kWide];
};

// A row of the memory in a thread, with its entries of q, k and n.
template <int kWide>
struct Row {
  Columns<kWide> memory;
  float query, key, n;
};

// The same for a thread's columns and for what q reads of n, over the threads of a warp that have these columns.
template <int kWide, int kAcross>
static __device__ void add_up(float (&sum)[kWide + 1]) {
#pragma unroll
  for (int other = 16; other >= kAcross; other /= 2)
#pragma unroll
    for (int c = 0; c <= kWide; ++c) sum[c] += __shfl_xor_sync(0xffffffffu, sum[c], other);
}

template <int kWide>
static __device__ void step(const kd_arguments& a) {
  constexpr int kAcross = COLUMNS / kWide, kDown = THREADS / kAcross, kParts = kAcross < 32 ? THREADS / 32 : kDown;
  __shared__ float parts[kParts][COLUMNS + 1];
  const long head = blockIdx.x;
  const int DHQK = (int)a.dims[KD_DIM_DHQK], DHHV = (int)a.dims[KD_DIM_DHHV];
  const int across = threadIdx.x % kAcross, down = threadIdx.x / kAcross;
  const int column = blockIdx.y * COLUMNS + across * kWide;
  const bool is_inside = column < DHHV;
  const T *const q = (const T*)a.inputs[0] + head * DHQK, *const k = (const T*)a.inputs[1] + head * DHQK;
  const float* const n = (const float*)a.inputs[6] + head * DHQK;
  float* const memory = (float*)a.outputs[1] + head * DHQK * DHHV + column;
  const float i = ((const float*)a.inputs[3])[head], f = ((const float*)a.inputs[4])[head], m = ((const float*)a.inputs[7])[head];
  const float by = rsqrtf((float)DHQK);
  float value[kWide], sum[kWide + 1] = {};
#pragma unroll
  for (int c = 0; c < kWide; ++c) value[c] = is_inside ? widen(((const T*)a.inputs[2])[head * DHHV + column + c]) : 0.0f;
  Token token = {};
  for (int from = down; from - down < DHQK; from += kDown * ROWS) {
    Row<kWide> rows[ROWS];
#pragma unroll
    for (int e = 0; e < ROWS; ++e) {
      const int d = from + e * kDown;
      if (d >= DHQK) continue;
      if (is_inside) rows[e].memory = *(const Columns<kWide>*)(memory + (long)d * DHHV);
      rows[e].query = widen(q[d]), rows[e].key = widen(k[d]), rows[e].n = n[d];
    }
    if (from == down) token = token_of(i, f, m, a.dims[KD_DIM_siging] != 0);  // while the first rows are on their way
#pragma unroll
    for (int e = 0; e < ROWS; ++e) {
      const int d = from + e * kDown;
      if (d >= DHQK) continue;
      const float share = scaled(token.share, rows[e].key), query = by * rows[e].query, next = token.past * rows[e].n + share;
      sum[kWide] += query * next;
      if (across == 0 && blockIdx.y == 0) ((float*)a.outputs[2])[head * DHQK + d] = next;
      if (!is_inside) continue;
#pragma unroll
      for (int c = 0; c < kWide; ++c) {
        float& x = rows[e].memory.at[c];
        x = token.past * x + share * value[c];
        sum[c] += query * x;
      }
      *(Columns<kWide>*)(memory + (long)d * DHHV) = rows[e].memory;
    }
  }
  add_up<kWide, kAcross>(sum);
  const int part = kAcross < 32 ? threadIdx.x / 32 : down;
  if (kAcross >= 32 || threadIdx.x % 32 < kAcross) {
#pragma unroll
    for (int c = 0; c < kWide; ++c) parts[part][across * kWide + c] = sum[c];
    if (across == 0) parts[part][COLUMNS] = sum[kWide];
  }
  __syncthreads();
  if (threadIdx.x == 0 && blockIdx.y == 0) ((float*)a.outputs[3])[head] = token.m;
  const int own = blockIdx.y * COLUMNS + threadIdx.x;
  if (threadIdx.x >= COLUMNS || own >= DHHV) return;
  float total = 0.0f, r = 0.0f;
#pragma unroll
  for (int e = 0; e < kParts; ++e) total += parts[e][threadIdx.x], r += parts[e][COLUMNS];
  const float size = fabsf(r), largest = size > token.floor || is_nan(size) ? size : token.floor;
  if (a.dims[KD_DIM_normalize] != 0) total /= largest + (float)a.scalars[KD_SCALAR_eps];
  ((T*)a.outputs[0])[head * DHHV + own] = narrow(total);
}

extern "C" __global__ void __launch_bounds__(THREADS) mlx_kd_mlstm_step_4(const __grid_constant__ kd_arguments a) {
  step<4>(a);
}
extern "C" __global__ void __launch_bounds__(THREADS) mlx_kd_mlstm_step(const __grid_constant__ kd_arguments a) {
  step<1>(a);
}
