// qk_norm_rope_append_paged_quantized: heads of queries and keys, each normed by its weight if
// there is one, then rotated by its position; keys and values are quantised into pages, in place.
//
// inputs: codes, scales and biases of keys, then of values, (P, Hk, L, D bits / 32) uint32 and (P,
// Hk, L, D / group); q (B, Hq, M, D), k (B, Hk, M, D), v (B, Hk, M, Dv), slots (B, M) int32, offset
// (B) or (1) int32, wq (D), wk (D), freqs (dims / 2) float32, the last three if the sizes say so;
// outputs: the first six, and q'. q, k and v may be strided; a unit is one of the B * M positions.
// Rotated keys are rounded to the type of k before they are quantised. Slot s is row s % L of page
// s / L; what has a slot outside is not written.
#ifndef KD_DTYPE
#define KD_DTYPE 0  // 0 float32, 1 float16, 2 bfloat16
#endif
#ifndef VEC
#define VEC 16  // bytes of a vector of floats
#endif
#ifndef BF16
#define BF16 0  // bfloat16 is rounded by integer arithmetic (0) or by AVX512_BF16 (1)
#endif
#ifndef HEADS
#define HEADS 1  // rows turned together
#endif
#ifndef UNROLL
#define UNROLL 1  // steps a turn of the loop
#endif
#ifndef EXACT
#define EXACT 0  // 1: each product is rounded
#endif
#ifndef PREFETCH
#define PREFETCH 0  // 1: the next rows are fetched
#endif

#ifndef KD_DIM_P
#define KD_DIM_P 0
#define KD_DIM_L 1
#define KD_DIM_B 2
#define KD_DIM_Hq 3
#define KD_DIM_Hk 4
#define KD_DIM_M 5
#define KD_DIM_D 6
#define KD_DIM_Dv 7
#define KD_DIM_dims 8
#define KD_DIM_traditional 9
#define KD_DIM_bits 10
#define KD_DIM_group_size 11
#define KD_DIM_ragged 12
#define KD_DIM_has_freqs 13
#define KD_DIM_has_wq 14
#define KD_DIM_has_wk 15
#define KD_SCALAR_eps 0
#define KD_SCALAR_base 1
#define KD_SCALAR_scale 2
#endif

constexpr int kQ = 6, kK = 7, kV = 8, kSlots = 9, kOffset = 10, kWq = 11, kWk = 12, kFreqs = 13,
              kTurned = 6;

#include "../append_coded.cpu.h"

extern "C" void mlx_kd_qk_norm_rope_append_paged_quantized(const kd_arguments* a, long begin,
                                                           long end) {
  const long* const dims = a->dims;
  const long length = dims[KD_DIM_L], heads = dims[KD_DIM_Hk];
  T* const turned = (T*)__builtin_alloca((unsigned long)(heads * dims[KD_DIM_D]) * sizeof(T));
  each_new_position(a, begin, end, [&](const Tables& tables, const Position& at, long) {
    const long slot = ((const int*)a->inputs[kSlots])[at.b * dims[KD_DIM_M] + at.t];
    if (slot < 0 || slot >= dims[KD_DIM_P] * length) return;
    const long page = slot / length;
    append_coded(a, tables, at, page * heads * length + (slot - page * length), length, turned);
  });
}
