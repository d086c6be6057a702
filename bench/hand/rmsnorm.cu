// A row of d = VEC * THREADS * KEEP elements a block, kept in registers between sum and scaling.
#include "types.cuh"

extern "C" __global__ void __launch_bounds__(THREADS)
    hand(const T* __restrict__ x, const T* __restrict__ w, T* __restrict__ y, float eps, int d) {
  const Pack* x_packs = reinterpret_cast<const Pack*>(x + size_t(blockIdx.x) * d);
  const Pack* w_packs = reinterpret_cast<const Pack*>(w);
  Pack* y_packs = reinterpret_cast<Pack*>(y + size_t(blockIdx.x) * d);
  Pack kept[KEEP];
#pragma unroll
  for (int k = 0; k < KEEP; ++k) kept[k] = x_packs[threadIdx.x + k * THREADS];
  float sum = 0;
#pragma unroll
  for (int k = 0; k < KEEP; ++k)
#pragma unroll
    for (int v = 0; v < VEC; ++v) sum += load(kept[k].at[v]) * load(kept[k].at[v]);
  const float scale = rsqrtf(block_sum<THREADS>(sum) / float(d) + eps);
#pragma unroll
  for (int k = 0; k < KEEP; ++k) {
    const Pack by = w_packs[threadIdx.x + k * THREADS];
    Pack made;
#pragma unroll
    for (int v = 0; v < VEC; ++v)
      made.at[v] = store(load(by.at[v]) * load(store(load(kept[k].at[v]) * scale)));
    y_packs[threadIdx.x + k * THREADS] = made;
  }
}
