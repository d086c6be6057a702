// A pack a thread; the last one may be short.
#include "types.cuh"

__device__ __forceinline__ T gated(T gate, T up) {
  const float g = load(gate);
  return store(g / (1.0f + expf(-g)) * load(up));
}

extern "C" __global__ void __launch_bounds__(THREADS)
    hand(const T* __restrict__ gate, const T* __restrict__ up, T* __restrict__ out, size_t n) {
  const size_t i = size_t(blockIdx.x) * THREADS + threadIdx.x;
  if (i < n / VEC) {
    const Pack a = reinterpret_cast<const Pack*>(gate)[i];
    const Pack b = reinterpret_cast<const Pack*>(up)[i];
    Pack made;
#pragma unroll
    for (int v = 0; v < VEC; ++v) made.at[v] = gated(a.at[v], b.at[v]);
    reinterpret_cast<Pack*>(out)[i] = made;
  } else if (i == n / VEC) {
    for (size_t j = i * VEC; j < n; ++j) out[j] = gated(gate[j], up[j]);
  }
}
