// A pack of the outputs a thread; where VEC does not divide both parts of a head, element by
// element.
#include "types.cuh"

struct __align__(VEC * sizeof(T) / 2) Angles {
  T at[VEC / 2];
};

extern "C" __global__ void __launch_bounds__(THREADS)
    hand(const T* __restrict__ q_nope, const T* __restrict__ q_rope, const T* __restrict__ kv_nope,
         const T* __restrict__ k_rope, const T* __restrict__ cosines, const T* __restrict__ sines,
         T* __restrict__ q_out, T* __restrict__ k_out, int batch, int heads, int d_nope,
         int d_rope) {
  const unsigned width = d_nope + d_rope, packs = (width + VEC - 1) / VEC;
  const unsigned queries = batch * heads, i = blockIdx.x * THREADS + threadIdx.x;
  if (i >= (queries + batch) * packs) return;
  const unsigned all = i / packs, start = i % packs * VEC;
  const bool query = all < queries;
  const unsigned head = query ? all : all - queries;
  const T* nope = (query ? q_nope : kv_nope) + size_t(head) * d_nope;
  const T* turn = (query ? q_rope : k_rope) + size_t(head) * d_rope;
  T* y = (query ? q_out : k_out) + size_t(head) * width;
  if (d_nope % VEC == 0 && d_rope % VEC == 0) {
    Pack* made = reinterpret_cast<Pack*>(y + start);
    if (start < unsigned(d_nope)) {
      *made = *reinterpret_cast<const Pack*>(nope + start);
      return;
    }
    const unsigned at = start - d_nope;
    const Pack x = *reinterpret_cast<const Pack*>(turn + at);
    const Angles c = *reinterpret_cast<const Angles*>(cosines + at / 2);
    const Angles s = *reinterpret_cast<const Angles*>(sines + at / 2);
    Pack turned;
#pragma unroll
    for (int p = 0; p < VEC / 2; ++p) {
      const float a = load(x.at[2 * p]), b = load(x.at[2 * p + 1]);
      turned.at[2 * p] = store(a * load(c.at[p]) - b * load(s.at[p]));
      turned.at[2 * p + 1] = store(a * load(s.at[p]) + b * load(c.at[p]));
    }
    *made = turned;
    return;
  }
#pragma unroll
  for (unsigned j = start; j < start + VEC; ++j) {
    if (j < unsigned(d_nope)) {
      y[j] = nope[j];
    } else if (j < width) {
      const unsigned at = (j - d_nope) / 2;
      const float a = load(turn[2 * at]), b = load(turn[2 * at + 1]);
      const float c = load(cosines[at]), s = load(sines[at]);
      y[j] = store((j - d_nope) % 2 == 0 ? a * c - b * s : a * s + b * c);
    }
  }
}
