// rope_standard: rotary position embedding of heads.
//
// inputs x (B, H, M, D), offset (B) or (1) int32, freqs (dims / 2) float32 if the sizes say so;
// output y (B, H, M, D); x may be strided; a unit is one of the B * M positions.
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
#define KD_DIM_H 2
#define KD_DIM_D 3
#define KD_DIM_dims 4
#define KD_DIM_traditional 5
#define KD_DIM_ragged 6
#define KD_DIM_has_freqs 7
#define KD_SCALAR_base 0
#define KD_SCALAR_scale 1
#endif

#include "../positions.cpu.h"

extern "C" void mlx_kd_rope_standard(const kd_arguments* a, long begin, long end) {
  const long count = a->dims[KD_DIM_M], heads = a->dims[KD_DIM_H], width = a->dims[KD_DIM_D];
  each_position(a, 1, 2, begin, end, [&](const Tables& tables, const Position& at, long) {
    const long* const strides = a->strides[0];
    const Heads all = {(const T*)a->inputs[0] + at.b * strides[0] + at.t * strides[2],
                       strides[1],
                       (T*)a->outputs[0] + (at.b * heads * count + at.t) * width,
                       count * width,
                       nullptr,
                       0.0f};
    turn_heads(tables, all, heads);
  });
}
