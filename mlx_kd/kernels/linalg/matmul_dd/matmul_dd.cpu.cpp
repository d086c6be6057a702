// matmul_dd: A B of each pair of matrices of a batch, as sums of two floats: hi + lo.
//
// inputs a (batch, m, k), b (batch, k, n); outputs hi, lo (batch, m, n). A unit is ROWS rows of a
// product. Each product of two elements is taken as its float and the rest (by a fused multiply and
// add), and added to the sum by Knuth's exact addition; what is lost goes to lo, and the two are
// made to not overlap again after each step.
#ifndef VEC
#define VEC 16  // bytes of a vector
#endif
#ifndef ROWS
#define ROWS 4  // rows of a tile
#endif
#ifndef TILE
#define TILE 1  // vectors of its columns
#endif

#include "../../common/elements.cpu.h"
#include "../../common/kd_arguments.h"

#ifndef KD_DIM_n
#define KD_DIM_batch 0
#define KD_DIM_m 1
#define KD_DIM_k 2
#define KD_DIM_n 3
#endif

#if defined(__AVX512F__)
constexpr long kRegister = VEC;
#elif defined(__AVX__)
constexpr long kRegister = VEC < 32 ? VEC : 32;
#else
constexpr long kRegister = 16;
#endif

KD_INLINE Floats load_some(const float* from, long count) {
  Floats value = {};
  __builtin_memcpy(&value, from, (count < kFloats ? count : kFloats) * sizeof(float));
  return value;
}
KD_INLINE void store_some(float* to, Floats value, long count) {
  __builtin_memcpy(to, &value, (count < kFloats ? count : kFloats) * sizeof(float));
}

// The value as it is: the compiler cannot fuse what made it with what uses it.
KD_INLINE Floats kept(Floats x) {
  typedef float Part __attribute__((vector_size(kRegister)));
  Part parts[VEC / kRegister];
  __builtin_memcpy(parts, &x, sizeof x);
  for (Part& part : parts) {
#if defined(__AVX512F__)
    asm("" : "+v"(part));
#elif defined(__x86_64__)
    asm("" : "+x"(part));
#elif defined(__aarch64__)
    asm("" : "+w"(part));
#endif
  }
  __builtin_memcpy(&x, parts, sizeof x);
  return x;
}

// What a * b is beyond its rounded product.
KD_INLINE Floats rest_of(float a, Floats b, Floats product) {
#if defined(__FMA__) || defined(__AVX512F__) || defined(__aarch64__)
  return a * kept(b) - product;  // fused: the compiler does not know it for the product that it has
#else
  const float a_split = a * 4097, a_high = a_split - (a_split - a), a_low = a - a_high;
  const Floats split = kept(b * 4097), high = split - (split - b), low = b - high;
  return ((kept(a_high * high) - product) + kept(a_high * low) + kept(a_low * high)) +
         kept(a_low * low);
#endif
}

struct Sum {
  Floats hi, lo;
};

KD_INLINE void add_product(Sum& sum, float a, Floats b) {
  const Floats product = kept(a * b), rest = rest_of(a, b, product);
  const Floats total = sum.hi + product, part = total - sum.hi;
  const Floats lost = (sum.hi - (total - part)) + (product - part);
  const Floats low = sum.lo + (lost + rest);
  sum.hi = total + low;
  sum.lo = low - (sum.hi - total);
}

template <int kRows, int kTile>
KD_INLINE void multiply(const kd_arguments* a, const float* left, const float* right, long at,
                        long j) {
  const long k = a->dims[KD_DIM_k], n = a->dims[KD_DIM_n];
  Sum sum[kRows][kTile] = {};
  for (long p = 0; p < k; ++p)
    for (int t = 0; t < kTile; ++t) {
      const long column = j + t * kFloats;
      const Floats line = load_some(right + p * n + column, n - column);
      for (int r = 0; r < kRows; ++r) add_product(sum[r][t], left[r * k + p], line);
    }
  for (int r = 0; r < kRows; ++r)
    for (int t = 0; t < kTile; ++t) {
      const long column = j + t * kFloats, to = at + r * n + column;
      store_some((float*)a->outputs[0] + to, sum[r][t].hi, n - column);
      store_some((float*)a->outputs[1] + to, sum[r][t].lo, n - column);
    }
}

template <int kRows>
static void multiply_rows(const kd_arguments* a, const float* left, const float* right, long at) {
  const long n = a->dims[KD_DIM_n];
  long j = 0;
  for (; j + TILE * kFloats <= n; j += TILE * kFloats) multiply<kRows, TILE>(a, left, right, at, j);
  for (; j < n; j += kFloats) multiply<kRows, 1>(a, left, right, at, j);
}

extern "C" void mlx_kd_matmul_dd(const kd_arguments* a, long begin, long end) {
  const long m = a->dims[KD_DIM_m], k = a->dims[KD_DIM_k], n = a->dims[KD_DIM_n];
  const long parts = (m + ROWS - 1) / ROWS;
  for (long unit = begin; unit < end; ++unit) {
    const long which = unit / parts;
    const float* const right = (const float*)a->inputs[1] + which * k * n;
    long i = unit % parts * ROWS;
    const long last = i + ROWS < m ? i + ROWS : m;
    const float* left = (const float*)a->inputs[0] + (which * m + i) * k;
    if (last - i == ROWS) {
      multiply_rows<ROWS>(a, left, right, (which * m + i) * n);
      continue;
    }
    for (; i < last; ++i, left += k) multiply_rows<1>(a, left, right, (which * m + i) * n);
  }
}
