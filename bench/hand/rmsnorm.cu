// A row a block. A thread keeps KEEP packs in registers between sum and scaling; longer rows are
// read again, and rows whose length is no multiple of VEC element by element.
#include "types.cuh"

extern "C" __global__ void __launch_bounds__(THREADS)
    hand(const T* __restrict__ x, const T* __restrict__ w, T* __restrict__ y, float eps, int d) {
  x += size_t(blockIdx.x) * d;
  y += size_t(blockIdx.x) * d;
  const Pack* x_packs = reinterpret_cast<const Pack*>(x);
  const Pack* w_packs = reinterpret_cast<const Pack*>(w);
  Pack* y_packs = reinterpret_cast<Pack*>(y);
  const int packs = d % VEC == 0 ? d / VEC : 0;
  Pack kept[KEEP];
#pragma unroll
  for (int k = 0; k < KEEP; ++k)
    if (threadIdx.x + k * THREADS < packs) kept[k] = x_packs[threadIdx.x + k * THREADS];
  float sum = 0;
#pragma unroll
  for (int k = 0; k < KEEP; ++k)
    if (threadIdx.x + k * THREADS < packs) sum += squares(kept[k]);
  for (int i = threadIdx.x + KEEP * THREADS; i < packs; i += THREADS) sum += squares(x_packs[i]);
  for (int i = packs * VEC + threadIdx.x; i < d; i += THREADS) sum += load(x[i]) * load(x[i]);
  const float scale = rsqrtf(block_sum<THREADS>(sum) / float(d) + eps);
#pragma unroll
  for (int k = 0; k < KEEP; ++k)
    if (threadIdx.x + k * THREADS < packs)
      y_packs[threadIdx.x + k * THREADS] = scaled(kept[k], w_packs[threadIdx.x + k * THREADS], scale);
  for (int i = threadIdx.x + KEEP * THREADS; i < packs; i += THREADS)
    y_packs[i] = scaled(x_packs[i], w_packs[i], scale);
  for (int i = packs * VEC + threadIdx.x; i < d; i += THREADS)
    y[i] = store(load(w[i]) * load(store(load(x[i]) * scale)));
}
