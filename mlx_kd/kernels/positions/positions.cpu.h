// The positions of a batch whose heads are rotated, for CPU kernels: a unit is one of them. The
// source says first where its dims and scalars are.
#pragma once
#include "../common/kd_arguments.h"
#include "rotate.cpu.h"

// Position t of batch row b.
struct Position {
  long b, t;
};

// Calls act(tables, position, offset) for each of the positions [begin, end) of the B * M, where
// `offset` is that of its batch row: an element of input `offsets`; `frequencies` is the input that
// has them, if there are any.
template <class Act>
KD_INLINE void each_position(const kd_arguments* a, int offsets, int frequencies, long begin,
                             long end, const Act& act) {
  const long* const dims = a->dims;
  const long count = dims[KD_DIM_M];
  const Rotation by = {a->scalars[KD_SCALAR_base],
                       a->scalars[KD_SCALAR_scale],
                       dims[KD_DIM_has_freqs] ? (const float*)a->inputs[frequencies] : nullptr,
                       dims[KD_DIM_dims],
                       dims[KD_DIM_D],
                       dims[KD_DIM_traditional] != 0};
  float* const cosines =
      (float*)__builtin_alloca(2 * (unsigned long)table_size(by) * sizeof(float));
  float* const sines = cosines + table_size(by);
  const Tables tables = {by, cosines, sines};
  for (long unit = begin; unit < end; ++unit) {
    const Position at = {unit / count, unit % count};
    const long offset = ((const int*)a->inputs[offsets])[dims[KD_DIM_ragged] ? at.b : 0];
    fill_tables(by, offset + at.t, cosines, sines);
    act(tables, at, offset);
  }
}
