// As rmsnorm.cu, of the sum of two rows, which is written too.
#include "types.cuh"

extern "C" __global__ void __launch_bounds__(THREADS)
    hand(const T* __restrict__ x, const T* __restrict__ r, const T* __restrict__ w,
         T* __restrict__ y, T* __restrict__ s, float eps, int d) {
  const size_t start = size_t(blockIdx.x) * d;
  const Pack* x_packs = reinterpret_cast<const Pack*>(x + start);
  const Pack* r_packs = reinterpret_cast<const Pack*>(r + start);
  const Pack* w_packs = reinterpret_cast<const Pack*>(w);
  Pack* y_packs = reinterpret_cast<Pack*>(y + start);
  Pack* s_packs = reinterpret_cast<Pack*>(s + start);
  Pack kept[KEEP], other[KEEP];
#pragma unroll
  for (int k = 0; k < KEEP; ++k) {
    kept[k] = x_packs[threadIdx.x + k * THREADS];
    other[k] = r_packs[threadIdx.x + k * THREADS];
  }
  float sum = 0;
#pragma unroll
  for (int k = 0; k < KEEP; ++k) {
#pragma unroll
    for (int v = 0; v < VEC; ++v) {
      kept[k].at[v] = store(load(kept[k].at[v]) + load(other[k].at[v]));
      sum += load(kept[k].at[v]) * load(kept[k].at[v]);
    }
    s_packs[threadIdx.x + k * THREADS] = kept[k];
  }
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
