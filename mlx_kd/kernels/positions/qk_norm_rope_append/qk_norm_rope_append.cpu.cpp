// qk_norm_rope_append: heads of queries and keys, each normed by its weight if there is one, then
// rotated by its position; keys go into a cache, in place, as do values.
//
// inputs keys (B, Hk, S, D), values (B, Hk, S, Dv), q (B, Hq, M, D), k (B, Hk, M, D), v (B, Hk, M,
// Dv), offset (B) or (1) int32, wq (D), wk (D), freqs (dims / 2) float32, the last three if the
// sizes say so; outputs: the first two, and q'. q, k and v may be strided; a unit is one of the B *
// M positions. A batch row whose rows do not fit into the cache is not written there.
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

#ifndef KD_DIM_S
#define KD_DIM_S 0
#define KD_DIM_B 1
#define KD_DIM_Hq 2
#define KD_DIM_Hk 3
#define KD_DIM_M 4
#define KD_DIM_D 5
#define KD_DIM_Dv 6
#define KD_DIM_dims 7
#define KD_DIM_traditional 8
#define KD_DIM_ragged 9
#define KD_DIM_has_freqs 10
#define KD_DIM_has_wq 11
#define KD_DIM_has_wk 12
#define KD_SCALAR_eps 0
#define KD_SCALAR_base 1
#define KD_SCALAR_scale 2
#endif

constexpr int kQ = 2, kK = 3, kV = 4, kOffset = 5, kWq = 6, kWk = 7, kFreqs = 8, kTurned = 2;

#include "../append.cpu.h"

extern "C" void mlx_kd_qk_norm_rope_append(const kd_arguments* a, long begin, long end) {
  const long* const dims = a->dims;
  const long rows = dims[KD_DIM_S], heads = dims[KD_DIM_Hk];
  each_new_position(a, begin, end, [&](const Tables& tables, const Position& at, long offset) {
    if (offset < 0 || offset > rows - dims[KD_DIM_M]) return;
    const long first = at.b * heads * rows + offset + at.t;  // row of the first head
    append(a, tables, at, (T*)a->outputs[0] + first * dims[KD_DIM_D],
           (T*)a->outputs[1] + first * dims[KD_DIM_Dv], rows);
  });
}
