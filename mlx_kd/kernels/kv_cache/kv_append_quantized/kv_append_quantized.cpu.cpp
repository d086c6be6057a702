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
#define UNROLL 1  // vectors of a group that are read in one turn: 1, 2, 4
#endif
#define BF16 0
#ifndef STREAM
#define STREAM 0
#endif

#include "../../common/affine_rows.cpu.h"
#include "../../common/kd_arguments.h"

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

static void append(const kd_arguments* a, int port, long width, long head, long t, long at) {
  const long heads = a->dims[KD_DIM_H], group = a->dims[KD_DIM_group_size];
  const long bits = a->dims[KD_DIM_bits], b = head / heads;
  const long row = head * a->dims[KD_DIM_S] + at;
  const long* strides = a->strides[6 + port];
  const T* from = (const T*)a->inputs[6 + port] + b * strides[0] + (head - b * heads) * strides[1] +
                  t * strides[2];
  const CodedRow to = {(unsigned char*)a->outputs[3 * port] + row * (width * bits / 8),
                       (T*)a->outputs[3 * port + 1] + row * (width / group),
                       (T*)a->outputs[3 * port + 2] + row * (width / group)};
  quantize(from, width, group, bits, to);
}

extern "C" void mlx_kd_kv_append_quantized(const kd_arguments* a, long begin, long end) {
  const long added = a->dims[KD_DIM_M], s = a->dims[KD_DIM_S], heads = a->dims[KD_DIM_H];
  const int* offsets = (const int*)a->inputs[8];
  for (long unit = begin; unit < end; ++unit) {
    const long head = unit / added, t = unit - head * added;
    const long offset = offsets[a->dims[KD_DIM_ragged] ? head / heads : 0];
    if (offset < 0 || offset > s - added) continue;
    append(a, 0, a->dims[KD_DIM_Dk], head, t, offset + t);
    append(a, 1, a->dims[KD_DIM_Dv], head, t, offset + t);
  }
}
