// The token of the largest log probability x - logsumexp(x) of each row of logits, and that log
// probability; both are rounded to the type as MLX rounds them, and the lowest index among equals wins.
//
// input logits (B, V); outputs token (B) uint32, logprob (B). Two stages:
//
//   mlx_kd_greedy_token       a block takes THREADS * KEEP packs of 8 logits of one row, kept in
//                             registers: its largest logit m, and its sum of exp(x - m), to scratch 0
//                             and 1 (B * blocks floats each). Grid: B * blocks * THREADS threads.
//   mlx_kd_greedy_token_rows  a block takes a row. Rounding is monotonic, so the first block whose
//                             largest logit has the largest log probability holds the token: that
//                             block is read again. Grid: B * THREADS threads.
//
// A row with NaN, or of -inf alone, gives token 0, a row with +inf its first +inf; logprob is NaN.
#ifndef KD_DTYPE
#define KD_DTYPE 1  // 0 float32, 1 float16, 2 bfloat16
#endif
#ifndef KD_DIM_V
#define KD_DIM_V 1  // where V is among the sizes
#endif
#ifndef KEEP
#define KEEP 1  // packs that a thread keeps
#endif
#ifndef THREADS
#define THREADS 256  // of a block: a multiple of 32
#endif
#ifndef FAST
#define FAST 0  // 1: the hardware's exponential
#endif

#include "../../common/kd_arguments.h"
#include "../../common/numbers.cu.h"

constexpr unsigned kVec = 8, kBlock = THREADS * KEEP * kVec, kWarps = THREADS / 32;
constexpr unsigned kAll = 0xffffffffu;

union Pack {
  uint4 bits[kVec * sizeof(T) / 16];
  T at[kVec];
};

static __device__ float infinity() {
  return __int_as_float(0x7f800000);
}

static __device__ float rounded(float x) {
  return widen(narrow(x));
}

static __device__ float exponential(float x) {
#if FAST
  return __expf(x);
#else
  return expf(x);
#endif
}

// NaN in x is passed over.
static __device__ float larger(float x, float than) {
  return x > than ? x : than;
}

// exp(x - most) where that is a number; else NaN for NaN, and 0.
static __device__ float share_of(float x, float most) {
  if (isinf(most)) return isnan(x) ? x : 0.0f;
  return exponential(x - most);
}

struct Larger {
  __device__ float operator()(float a, float b) const { return larger(a, b); }
};
struct Sum {
  __device__ float operator()(float a, float b) const { return a + b; }
};
struct Smaller {
  __device__ unsigned operator()(unsigned a, unsigned b) const { return min(a, b); }
};

// Over all threads of the block, who all get it. `shared` (kWarps) is free again after the next
// barrier.
template <class Number, class Join>
static __device__ Number over_block(Number x, Number* shared, Join join) {
  for (int other = 16; other > 0; other /= 2) x = join(x, __shfl_xor_sync(kAll, x, other));
  if (threadIdx.x % 32 == 0) shared[threadIdx.x / 32] = x;
  __syncthreads();
  x = shared[0];
  for (unsigned w = 1; w < kWarps; ++w) x = join(x, shared[w]);
  return x;
}

extern "C" __global__ void __launch_bounds__(THREADS)
    mlx_kd_greedy_token(const __grid_constant__ kd_arguments a) {
  __shared__ float maxima[kWarps], sums[kWarps];
  const unsigned long long width = a.dims[KD_DIM_V];
  const unsigned blocks = (width + kBlock - 1) / kBlock, unit = blockIdx.x;
  const unsigned long long from = (unsigned long long)(unit % blocks) * kBlock;
  const unsigned count = min(width - from, (unsigned long long)kBlock);
  const T* const x = (const T*)a.inputs[0] + unit / blocks * width + from;
  const bool whole = (unsigned long long)x % 16 == 0;

  float kept[KEEP][kVec];
#pragma unroll
  for (unsigned k = 0; k < KEEP; ++k) {
    const unsigned at = (k * THREADS + threadIdx.x) * kVec;
    if (whole && at + kVec <= count) {
      Pack pack;
#pragma unroll
      for (unsigned part = 0; part < sizeof(pack.bits) / 16; ++part)
        pack.bits[part] = ((const uint4*)(x + at))[part];
#pragma unroll
      for (unsigned v = 0; v < kVec; ++v) kept[k][v] = widen(pack.at[v]);
    } else {
#pragma unroll
      for (unsigned v = 0; v < kVec; ++v)
        kept[k][v] = at + v < count ? widen(x[at + v]) : -infinity();
    }
  }
  float most = -infinity(), sum = 0.0f;
#pragma unroll
  for (unsigned k = 0; k < KEEP; ++k)
#pragma unroll
    for (unsigned v = 0; v < kVec; ++v) most = larger(kept[k][v], most);
  most = over_block(most, maxima, Larger());
#pragma unroll
  for (unsigned k = 0; k < KEEP; ++k)
#pragma unroll
    for (unsigned v = 0; v < kVec; ++v) sum += share_of(kept[k][v], most);
  sum = over_block(sum, sums, Sum());
  if (threadIdx.x == 0) {
    ((float*)a.scratch[0])[unit] = most;
    ((float*)a.scratch[1])[unit] = sum;
  }
}

extern "C" __global__ void __launch_bounds__(THREADS)
    mlx_kd_greedy_token_rows(const __grid_constant__ kd_arguments a) {
  __shared__ float maxima[kWarps], sums[kWarps];
  __shared__ unsigned first_blocks[kWarps], first_tokens[kWarps];
  const unsigned row = blockIdx.x, width = a.dims[KD_DIM_V];
  const unsigned blocks = (width + kBlock - 1) / kBlock;
  const T* const x = (const T*)a.inputs[0] + (unsigned long long)row * width;
  const float* const largest = (const float*)a.scratch[0] + row * blocks;
  const float* const parts = (const float*)a.scratch[1] + row * blocks;

  float most = -infinity(), sum = 0.0f;
  for (unsigned i = threadIdx.x; i < blocks; i += THREADS) most = larger(largest[i], most);
  most = over_block(most, maxima, Larger());
  // NaN of a block is kept whatever its weight.
  for (unsigned i = threadIdx.x; i < blocks; i += THREADS)
    sum += parts[i] * (isinf(most) ? 1.0f : exponential(largest[i] - most));
  sum = over_block(sum, sums, Sum());

  // The token is the first with rounded(x - minus) == wanted, if there is one.
  const bool has_token = !isnan(sum) && most > -infinity();
  const bool finite = has_token && !isinf(most);
  const float minus = finite ? rounded(most + logf(sum)) : 0.0f;
  const float wanted = rounded(most - minus);
  unsigned block = blocks - 1;
  for (unsigned i = threadIdx.x; i < blocks; i += THREADS)
    if (rounded(largest[i] - minus) == wanted) block = min(block, i);
  block = over_block(block, first_blocks, Smaller());
  const unsigned begin = block * kBlock, end = min(width, begin + kBlock);
  unsigned first = end;
  for (unsigned i = begin + threadIdx.x; i < end; i += THREADS)
    if (rounded(widen(x[i]) - minus) == wanted) first = min(first, i);
  first = over_block(first, first_tokens, Smaller());
  if (threadIdx.x == 0) {
    ((unsigned*)a.outputs[0])[row] = has_token ? first : 0u;
    ((T*)a.outputs[1])[row] = narrow(finite ? wanted : __int_as_float(0x7fc00000));
  }
}
