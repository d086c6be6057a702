// clang-format off
// The body of an element-wise kernel: out = MADE(a, b) or, where there is one input, MADE(a, a), of N
// elements. It reads inputs FIRST and SECOND, out, N and the thread positions under metal_kernel's
// names. A thread takes UNROLL packs of VEC elements, a grid apart; the last pack may be short.
// Macros: VEC, UNROLL, FIRST, SECOND, MADE.
#pragma once
  struct alignas(PACK_BYTES) Pack {
    T at[VEC];
  };
  const device Pack* firsts = reinterpret_cast<const device Pack*>(FIRST);
  const device Pack* seconds = reinterpret_cast<const device Pack*>(SECOND);
  device Pack* outs = reinterpret_cast<device Pack*>(out);
  const ulong packs = ulong(N) / VEC;
#pragma unroll
  for (uint k = 0; k < UNROLL; ++k) {
    const ulong i = ulong(thread_position_in_grid.x) + ulong(k) * threads_per_grid.x;
    if (i < packs) {
      const Pack a = firsts[i];
      const Pack b = seconds[i];
      Pack made;
#pragma unroll
      for (uint v = 0; v < VEC; ++v) made.at[v] = T(MADE(float(a.at[v]), float(b.at[v])));
      outs[i] = made;
    } else if (i == packs) {
      for (ulong j = i * VEC; j < ulong(N); ++j) out[j] = T(MADE(float(FIRST[j]), float(SECOND[j])));
    }
  }
