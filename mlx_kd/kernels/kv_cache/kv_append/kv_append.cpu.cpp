// kv_append: new rows of keys and values are written into a cache, in place.
//
// inputs keys (B, H, S, Dk), values (B, H, S, Dv), new_keys (B, H, M, Dk), new_values (B, H, M,
// Dv), offset (B) or (1); the outputs are the first two; a unit is one of the B * H * M new rows.
// The new rows may be strided. Nothing is computed: elements are copied as bytes.
#ifndef KD_DTYPE
#define KD_DTYPE 0  // 0 float32, 1 float16, 2 bfloat16
#endif
#ifndef VEC
#define VEC 16  // bytes of a vector
#endif
#ifndef COPY
#define COPY 4  // vectors a turn of the copy; 0: memcpy
#endif

#include "../../common/kd_arguments.h"

#ifndef KD_DIM_S
#define KD_DIM_S 0
#define KD_DIM_B 1
#define KD_DIM_H 2
#define KD_DIM_M 3
#define KD_DIM_Dk 4
#define KD_DIM_Dv 5
#define KD_DIM_ragged 6
#endif

constexpr long kElement = KD_DTYPE == 0 ? 4 : 2;  // bytes

typedef unsigned char Bytes __attribute__((vector_size(VEC)));

template <class Vector>
static inline void move(char* to, const char* from) {
  Vector value;
  __builtin_memcpy(&value, from, sizeof value);
  __builtin_memcpy(to, &value, sizeof value);
}

static inline void copy(char* __restrict to, const char* __restrict from, long bytes) {
#if COPY == 0
  __builtin_memcpy(to, from, (unsigned long)bytes);
#else
  long at = 0;
  for (; at + COPY * VEC <= bytes; at += COPY * VEC) {
    Bytes values[COPY];
    for (int i = 0; i < COPY; ++i) __builtin_memcpy(&values[i], from + at + i * VEC, VEC);
    for (int i = 0; i < COPY; ++i) __builtin_memcpy(to + at + i * VEC, &values[i], VEC);
  }
  for (; at + VEC <= bytes; at += VEC) move<Bytes>(to + at, from + at);
  for (; at + 8 <= bytes; at += 8) move<long long>(to + at, from + at);
  for (; at + 2 <= bytes; at += 2) move<short>(to + at, from + at);
#endif
}

// Rows [t, t + count) of head h of batch row b, to the cache's rows from `first` on.
struct Rows {
  long b, h, t, count, first;
};

static void append(const kd_arguments* a, int port, long width, Rows rows) {
  const long* strides = a->strides[2 + port];
  const long bytes = width * kElement;
  const long cache_row = (rows.b * a->dims[KD_DIM_H] + rows.h) * a->dims[KD_DIM_S] + rows.first;
  char* to = (char*)a->outputs[port] + cache_row * bytes;
  const char* from = (const char*)a->inputs[2 + port] +
                     (rows.b * strides[0] + rows.h * strides[1] + rows.t * strides[2]) * kElement;
  if (strides[2] == width) return copy(to, from, rows.count * bytes);
  for (long i = 0; i < rows.count; ++i)
    copy(to + i * bytes, from + i * strides[2] * kElement, bytes);
}

extern "C" void mlx_kd_kv_append(const kd_arguments* a, long begin, long end) {
  const long heads = a->dims[KD_DIM_H], all = a->dims[KD_DIM_M], s = a->dims[KD_DIM_S];
  const int* offsets = (const int*)a->inputs[4];
  while (begin < end) {
    const long head = begin / all, t = begin - head * all, b = head / heads;
    const long count = end - begin < all - t ? end - begin : all - t;
    const long offset = offsets[a->dims[KD_DIM_ragged] ? b : 0];
    begin += count;
    if (offset < 0 || offset > s - all) continue;
    const Rows rows = {b, head - b * heads, t, count, offset + t};
    append(a, 0, a->dims[KD_DIM_Dk], rows);
    append(a, 1, a->dims[KD_DIM_Dv], rows);
  }
}
