// kv_append_quantized: new rows of keys and values are quantised into a cache, in place.
//
// inputs: codes, scales and biases of keys, then of values, (B, H, S, D bits / 32) uint32 and
// (B, H, S, D / group); new_keys (B, H, M, Dk), new_values (B, H, M, Dv), offset (B) or (1); the
// outputs are the first six; a unit is one of the B * H * M new rows, which may be strided.
#ifndef KD_DTYPE
#define KD_DTYPE 0  // 0 float32, 1 float16, 2 bfloat16
#endif
#ifndef VEC
#define VEC 16  // bytes of a vector of floats
#endif
#ifndef UNROLL
#define UNROLL 1  // steps of a group that are read in one turn: 1, 2, 4
#endif
#define BF16 0
#ifndef STREAM
#define STREAM 0
#endif

#ifndef KD_DIM_S
#define KD_DIM_S 0
#define KD_DIM_B 1
#define KD_DIM_H 2
#define KD_DIM_M 3
#define KD_DIM_Dk 4
#define KD_DIM_Dv 5
#define KD_DIM_ragged 8
#define KD_DIM_bits 6
#define KD_DIM_group_size 7
#endif

#include "../../common/affine_rows.cpu.h"

static const T* new_row(const kd_arguments* a, int port, long head, long t) {
  const long b = head / a->dims[KD_DIM_H], *strides = a->strides[port];
  return (const T*)a->inputs[port] + b * strides[0] + (head - b * a->dims[KD_DIM_H]) * strides[1] +
         t * strides[2];
}

template <int kBits>
static void append(const kd_arguments* a, long begin, long end) {
  const long added = a->dims[KD_DIM_M], s = a->dims[KD_DIM_S], heads = a->dims[KD_DIM_H];
  const int* offsets = (const int*)a->inputs[8];
  Groups<kBits> groups(a);
  for (long unit = begin; unit < end; ++unit) {
    const long head = unit / added, t = unit - head * added;
    const long offset = offsets[a->dims[KD_DIM_ragged] ? head / heads : 0];
    if (offset < 0 || offset > s - added) continue;
    const long row = head * s + offset + t;
    groups.add(new_row(a, 6, head, t), a->dims[KD_DIM_Dk], 0, row);
    groups.add(new_row(a, 7, head, t), a->dims[KD_DIM_Dv], 3, row);
  }
  groups.flush();
}

extern "C" void mlx_kd_kv_append_quantized(const kd_arguments* a, long begin, long end) {
  if (a->dims[KD_DIM_bits] == 8)
    append<8>(a, begin, end);
  else
    append<4>(a, begin, end);
}
