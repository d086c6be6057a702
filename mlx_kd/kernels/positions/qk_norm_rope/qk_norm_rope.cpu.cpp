// qk_norm_rope: heads of queries and keys, each normed by its weight if there is one, then rotated
// by its position.
//
// inputs q (B, Hq, M, D), k (B, Hk, M, D), offset (B) or (1) int32, wq (D), wk (D), freqs (dims /
// 2) float32, the last three if the sizes say so; outputs q', k' of the shapes of q and k; q and k
// may be strided; a unit is one of the B * M positions.
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

#ifndef KD_DIM_M
#define KD_DIM_M 0
#define KD_DIM_B 1
#define KD_DIM_Hq 2
#define KD_DIM_Hk 3
#define KD_DIM_D 4
#define KD_DIM_dims 5
#define KD_DIM_traditional 6
#define KD_DIM_ragged 7
#define KD_DIM_has_freqs 8
#define KD_DIM_has_wq 9
#define KD_DIM_has_wk 10
#define KD_SCALAR_eps 0
#define KD_SCALAR_base 1
#define KD_SCALAR_scale 2
#endif

#include "../positions.cpu.h"

// The heads of one position, of q (port 0) or k (port 1).
static void turn_port(const kd_arguments* a, const Tables& tables, int port, const Position& at) {
  const long* const strides = a->strides[port];
  const long width = a->dims[KD_DIM_D], rows = a->dims[KD_DIM_M];
  const long count = a->dims[port ? KD_DIM_Hk : KD_DIM_Hq];
  const bool normed = a->dims[port ? KD_DIM_has_wk : KD_DIM_has_wq] != 0;
  const Heads heads = {(const T*)a->inputs[port] + at.b * strides[0] + at.t * strides[2],
                       strides[1],
                       (T*)a->outputs[port] + (at.b * count * rows + at.t) * width,
                       rows * width,
                       normed ? (const T*)a->inputs[3 + port] : nullptr,
                       float(a->scalars[KD_SCALAR_eps])};
  turn_heads(tables, heads, count);
}

extern "C" void mlx_kd_qk_norm_rope(const kd_arguments* a, long begin, long end) {
  each_position(a, 2, 5, begin, end, [&](const Tables& tables, const Position& at, long) {
    turn_port(a, tables, 0, at);
    turn_port(a, tables, 1, at);
  });
}
