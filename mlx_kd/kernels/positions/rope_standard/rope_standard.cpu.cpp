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

#include "../../common/kd_arguments.h"
#include "../rotate.cpu.h"

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

extern "C" void mlx_kd_rope_standard(const kd_arguments* a, long begin, long end) {
  const long* const dims = a->dims;
  const long count = dims[KD_DIM_M], heads = dims[KD_DIM_H], width = dims[KD_DIM_D];
  const Rotation by = {a->scalars[KD_SCALAR_base],
                       a->scalars[KD_SCALAR_scale],
                       dims[KD_DIM_has_freqs] ? (const float*)a->inputs[2] : nullptr,
                       dims[KD_DIM_dims],
                       width,
                       dims[KD_DIM_traditional] != 0};
  float* const cosines =
      (float*)__builtin_alloca(2 * (unsigned long)table_size(by) * sizeof(float));
  float* const sines = cosines + table_size(by);
  const Tables tables = {by, cosines, sines};
  for (long unit = begin; unit < end; ++unit) {
    const long b = unit / count, t = unit - b * count;
    fill_tables(by, ((const int*)a->inputs[1])[dims[KD_DIM_ragged] ? b : 0] + t, cosines, sines);
    const long* const strides = a->strides[0];
    const Heads all = {(const T*)a->inputs[0] + b * strides[0] + t * strides[2],
                       strides[1],
                       (T*)a->outputs[0] + (b * heads * count + t) * width,
                       count * width,
                       nullptr,
                       0.0f};
    turn_heads(tables, all, heads);
  }
}
