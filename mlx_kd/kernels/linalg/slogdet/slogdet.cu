// slogdet: the sign of the determinant and the logarithm of its magnitude for each matrix of a batch, by
// P A = L U with partial pivoting, by a group of threads each (systems.cu.h).
//
// Grid: a group for each matrix in x. A matrix that does not fit into shared memory (large.cu.h): _load, a block of rows
// in y; for each panel _panel, then _columns, blocks of columns in y; _store.
#include "../large.cu.h"

#ifndef KD_DIM_n
#define KD_DIM_n 1
#endif

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

KD_INLINE void multiply(Product& product, const Product& by) {
  product.exponent += by.exponent;
  product.mantissa *= by.mantissa;
  if (product.mantissa >= 2.0f) product.mantissa *= 0.5f, product.exponent += 1;
}

// Of w, whose diagonal has the pivots; is_odd: whether this thread's exchanges of rows are.
KD_INLINE void store_determinant(const kd_arguments& a, int n, const float* w, int stride, int failed, bool is_odd) {
  __shared__ Product products[kMostThreads / 32];
  const float* const from = matrix_of(a, n, n);
  bool is_spoilt = false;
  for (long e = thread_of(); e < (long)n * n && failed; e += thread_count())
    is_spoilt = is_spoilt || !is_finite(from[e]) || !is_finite(w[e / n * stride + e % n]);
  is_spoilt = __syncthreads_or(is_spoilt);
  Product product;
  for (int c = thread_of(); c < n && !failed; c += thread_count()) {
    const float pivot = w[(long)c * stride + c];
    is_odd = is_odd != (pivot < 0.0f);
    multiply(product, pivot);
  }
  for (int other = 16; other > 0; other /= 2)
    multiply(product, Product{__shfl_xor_sync(kAll, product.mantissa, other), __shfl_xor_sync(kAll, product.exponent, other)});
  if (threadIdx.x == 0) products[threadIdx.y] = product;
  const bool is_negative = __syncthreads_count(is_odd) % 2 != 0;
  if (thread_of() != 0) return;
  for (int warp = 1; warp < blockDim.y; ++warp) multiply(product, products[warp]);
  const float nothing = is_spoilt ? not_a_number() : 0.0f;
  ((float*)a.outputs[0])[blockIdx.x] = failed ? nothing : is_negative ? -1.0f : 1.0f;
  ((float*)a.outputs[1])[blockIdx.x] =
      !failed ? logarithm_of(product) : is_spoilt ? not_a_number() : __int_as_float(0xff800000);
  ((int*)a.outputs[2])[blockIdx.x] = failed;
}

KD_KERNEL(mlx_kd_slogdet) {
  __shared__ Table table;
  const int n = (int)a.dims[KD_DIM_n];
  const float* const from = matrix_of(a, n, n);
  const Matrix work = load(in_shared_memory(), n, n, 0, nullptr, [&](int i, int j) { return from[(long)i * n + j]; });
  bool is_odd = false;
  const int failed = eliminate<false>(work, n, n, table, [&](int column, int row) { is_odd = is_odd != (column != row); });
  store_determinant(a, n, work.w, work.stride, failed, is_odd && thread_of() == 0);
}

// ---- a matrix that does not fit into shared memory

KD_KERNEL(mlx_kd_slogdet_load) {
  load_general(a, (int)a.dims[KD_DIM_n], 0, nullptr);
}
KD_KERNEL(mlx_kd_slogdet_panel) {
  const int n = (int)a.dims[KD_DIM_n];
  factor_columns<false>(a, large_of(a, n, n, 0), n, n);
}
KD_KERNEL(mlx_kd_slogdet_columns) {
  const int n = (int)a.dims[KD_DIM_n];
  reduce_columns(a, large_of(a, n, n, 0), n, n);
}
KD_KERNEL(mlx_kd_slogdet_store) {
  const int n = (int)a.dims[KD_DIM_n];
  const Large l = large_of(a, n, n, 0);
  bool is_odd = false;
  for (int c = thread_of(); c < n && !*l.info; c += thread_count()) is_odd = is_odd != (l.pivots[c] != c);
  store_determinant(a, n, l.w, l.width, *l.info, is_odd);
}
