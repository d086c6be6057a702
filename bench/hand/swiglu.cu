// A pack a thread; n is a multiple of VEC.
#include "types.cuh"

extern "C" __global__ void __launch_bounds__(THREADS)
    hand(const T* __restrict__ gate, const T* __restrict__ up, T* __restrict__ out, size_t n) {
  const size_t i = size_t(blockIdx.x) * THREADS + threadIdx.x;
  if (i >= n / VEC) return;
  const Pack a = reinterpret_cast<const Pack*>(gate)[i];
  const Pack b = reinterpret_cast<const Pack*>(up)[i];
  Pack made;
#pragma unroll
  for (int v = 0; v < VEC; ++v) {
    const float g = load(a.at[v]);
    made.at[v] = store(g / (1.0f + expf(-g)) * load(b.at[v]));
  }
  reinterpret_cast<Pack*>(out)[i] = made;
}
