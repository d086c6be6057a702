// As rmsnorm.cu, of the sum of two rows, which is written too.
#include "types.cuh"

extern "C" __global__ void __launch_bounds__(THREADS)
    hand(const T* __restrict__ x, const T* __restrict__ r, const T* __restrict__ w,
         T* __restrict__ y, T* __restrict__ s, float eps, int d) {
  const size_t start = size_t(blockIdx.x) * d;
  x += start, r += start, y += start, s += start;
  const Pack* x_packs = reinterpret_cast<const Pack*>(x);
  const Pack* r_packs = reinterpret_cast<const Pack*>(r);
  const Pack* w_packs = reinterpret_cast<const Pack*>(w);
  Pack* y_packs = reinterpret_cast<Pack*>(y);
  Pack* s_packs = reinterpret_cast<Pack*>(s);
  const int packs = d % VEC == 0 ? d / VEC : 0;
  Pack kept[KEEP], other[KEEP];
#pragma unroll
  for (int k = 0; k < KEEP; ++k)
    if (threadIdx.x + k * THREADS < packs) {
      kept[k] = x_packs[threadIdx.x + k * THREADS];
      other[k] = r_packs[threadIdx.x + k * THREADS];
    }
  float sum = 0;
#pragma unroll
  for (int k = 0; k < KEEP; ++k)
    if (threadIdx.x + k * THREADS < packs) {
      kept[k] = added(kept[k], other[k]);
      sum += squares(kept[k]);
      s_packs[threadIdx.x + k * THREADS] = kept[k];
    }
  for (int i = threadIdx.x + KEEP * THREADS; i < packs; i += THREADS) {
    const Pack both = added(x_packs[i], r_packs[i]);
    sum += squares(both);
    s_packs[i] = both;
  }
  for (int i = packs * VEC + threadIdx.x; i < d; i += THREADS) {
    const T both = store(load(x[i]) + load(r[i]));
    sum += load(both) * load(both);
    s[i] = both;
  }
  const float scale = rsqrtf(block_sum<THREADS>(sum) / float(d) + eps);
#pragma unroll
  for (int k = 0; k < KEEP; ++k)
    if (threadIdx.x + k * THREADS < packs)
      y_packs[threadIdx.x + k * THREADS] = scaled(kept[k], w_packs[threadIdx.x + k * THREADS], scale);
  for (int i = threadIdx.x + KEEP * THREADS; i < packs; i += THREADS)
    y_packs[i] = scaled(s_packs[i], w_packs[i], scale);
  for (int i = packs * VEC + threadIdx.x; i < d; i += THREADS)
    y[i] = store(load(w[i]) * load(store(load(s[i]) * scale)));
}
