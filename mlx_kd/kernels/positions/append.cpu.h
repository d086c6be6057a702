// Queries, keys and values of new positions, for CPU kernels that write the keys and the values
// into a cache. The source says first where its arrays are, kQ, kK, kV, kOffset, kWq, kWk and
// kFreqs among the inputs, kTurned (the rotated queries) among the outputs, and its dims.
#pragma once
#include "positions.cpu.h"

static const T* row_at(const kd_arguments* a, int port, const Position& at) {
  const long* const strides = a->strides[port];
  return (const T*)a->inputs[port] + at.b * strides[0] + at.t * strides[2];
}

static void turn_queries(const kd_arguments* a, const Tables& tables, const Position& at) {
  const long width = a->dims[KD_DIM_D], rows = a->dims[KD_DIM_M], count = a->dims[KD_DIM_Hq];
  const Heads heads = {row_at(a, kQ, at),
                       a->strides[kQ][1],
                       (T*)a->outputs[kTurned] + (at.b * count * rows + at.t) * width,
                       rows * width,
                       a->dims[KD_DIM_has_wq] ? (const T*)a->inputs[kWq] : nullptr,
                       float(a->scalars[KD_SCALAR_eps])};
  turn_heads(tables, heads, count);
}

// The keys of all heads, `stride` elements apart.
static void turn_keys(const kd_arguments* a, const Tables& tables, const Position& at, T* to,
                      long stride) {
  const Heads heads = {row_at(a, kK, at),
                       a->strides[kK][1],
                       to,
                       stride,
                       a->dims[KD_DIM_has_wk] ? (const T*)a->inputs[kWk] : nullptr,
                       float(a->scalars[KD_SCALAR_eps])};
  turn_heads(tables, heads, a->dims[KD_DIM_Hk]);
}

// Keys and values to their rows of the first head; heads are `rows` rows apart.
[[maybe_unused]] static void append(const kd_arguments* a, const Tables& tables, const Position& at,
                                    T* keys, T* values, long rows) {
  const long width = a->dims[KD_DIM_Dv];
  turn_keys(a, tables, at, keys, rows * a->dims[KD_DIM_D]);
  const T* const from = row_at(a, kV, at);
  for (long head = 0; head < a->dims[KD_DIM_Hk]; ++head)
    __builtin_memcpy(values + head * rows * width, from + head * a->strides[kV][1],
                     (unsigned long)(width * long(sizeof(T))));
}

// Turns the queries of the positions [begin, end) of the B * M, and calls write(tables, position,
// offset) for each, where `offset` is that of its batch row.
template <class Write>
KD_INLINE void each_new_position(const kd_arguments* a, long begin, long end, const Write& write) {
  each_position(a, kOffset, kFreqs, begin, end,
                [&](const Tables& tables, const Position& at, long offset) {
                  turn_queries(a, tables, at);
                  write(tables, at, offset);
                });
}
