// slogdet: the sign of the determinant and the logarithm of its magnitude for each matrix of a batch, by
// P A = L U with partial pivoting, by a group of threads each (systems.cu.h).
//
// Grid: a group for each matrix in x. Scratch: the matrix, if it is not in shared memory.
#include "../systems.cu.h"

#ifndef KD_DIM_n
#define KD_DIM_n 1
#endif

extern __shared__ float4 shared[];

// The product of mantissas in [1, 2), and the exponents beside it: no logarithm until the end.
struct Product {
  float mantissa = 1.0f;
  int exponent = 0;
};

KD_INLINE void multiply(Product& product, float pivot) {
  const unsigned bits = __float_as_uint(fabsf(pivot));
  const int shift = bits < 0x800000u ? 24 : 0;
  const unsigned normal = shift ? __float_as_uint(fabsf(pivot) * 16777216.0f) : bits;
  product.exponent += (int)(normal >> 23) - 127 - shift;
  product.mantissa *= __uint_as_float((normal & 0x7fffffu) | 0x3f800000u);
  if (product.mantissa >= 2.0f) product.mantissa *= 0.5f, product.exponent += 1;
}

KD_INLINE float logarithm_of(const Product& product) {
  const float exponent = (float)product.exponent;  // times log(2) in two parts
  return exponent * 0x1.62e43p-1f - exponent * 0x1.05c61p-29f + logf(product.mantissa);
}

KD_INLINE void determine(const kd_arguments& a, float* w) {
  __shared__ Table table;
  const int n = (int)a.dims[KD_DIM_n];
  const float* const from = (const float*)a.inputs[0] + (long)blockIdx.x * n * n;
  const Matrix work = load(w, n, n, 0, nullptr, [&](int i, int j) { return from[(long)i * n + j]; });
  bool is_negative = false;
  const int failed = eliminate<false>(
      work, n, n, table, [&](int column, int row) { is_negative = is_negative != (column != row); });
  bool is_spoilt = false;
  for (long e = threadIdx.x; e < (long)n * n && failed; e += blockDim.x)
    is_spoilt = is_spoilt || !is_finite(from[e]) || !is_finite(w[e / n * work.stride + e % n]);
  is_spoilt = __syncthreads_or(is_spoilt);
  if (threadIdx.x != 0) return;
  Product product;
  for (int c = 0; c < n && !failed; ++c) {
    const float pivot = w[(long)c * work.stride + c];
    is_negative = is_negative != (pivot < 0.0f);
    multiply(product, pivot);
  }
  const float nothing = is_spoilt ? not_a_number() : 0.0f;
  ((float*)a.outputs[0])[blockIdx.x] = failed ? nothing : is_negative ? -1.0f : 1.0f;
  ((float*)a.outputs[1])[blockIdx.x] =
      !failed ? logarithm_of(product) : is_spoilt ? not_a_number() : __int_as_float(0xff800000);
  ((int*)a.outputs[2])[blockIdx.x] = failed;
}

extern "C" __global__ void __launch_bounds__(kMostThreads) mlx_kd_slogdet(const __grid_constant__ kd_arguments a) {
  const int n = (int)a.dims[KD_DIM_n];
  const long floats = floats_of(n, n, 0);
  if (is_shared(floats))
    determine(a, (float*)shared);
  else
    determine(a, (float*)a.scratch[0] + blockIdx.x * floats);
}
