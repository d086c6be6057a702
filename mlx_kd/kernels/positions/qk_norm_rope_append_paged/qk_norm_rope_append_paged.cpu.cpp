// qk_norm_rope_append_paged: heads of queries and keys, each normed by its weight if there is one,
// then rotated by its position; keys go into pages, in place, as do values.
//
// inputs key_pages (P, Hk, L, D), value_pages (P, Hk, L, Dv), q (B, Hq, M, D), k (B, Hk, M, D), v
// (B, Hk, M, Dv), slots (B, M) int32, offset (B) or (1) int32, wq (D), wk (D), freqs (dims / 2)
// float32, the last three if the sizes say so; outputs: the first two, and q'. q, k and v may be
// strided; a unit is one of the B * M positions. Slot s is row s % L of page s / L; what has a slot
// outside is not written.
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
#define KD_DIM_ragged 10
#define KD_DIM_has_freqs 11
#define KD_DIM_has_wq 12
#define KD_DIM_has_wk 13
#define KD_SCALAR_eps 0
#define KD_SCALAR_base 1
#define KD_SCALAR_scale 2
#endif

constexpr int kQ = 2, kK = 3, kV = 4, kSlots = 5, kOffset = 6, kWq = 7, kWk = 8, kFreqs = 9;

// One position of a batch row: where it is among the new rows, and its slot.
struct Position {
  long b, t, slot;
};

static const T* row_at(const kd_arguments* a, int port, const Position& at) {
  const long* const strides = a->strides[port];
  return (const T*)a->inputs[port] + at.b * strides[0] + at.t * strides[2];
}

static void turn_queries(const kd_arguments* a, const Tables& tables, const Position& at) {
  const long width = a->dims[KD_DIM_D], rows = a->dims[KD_DIM_M], count = a->dims[KD_DIM_Hq];
  const Heads heads = {row_at(a, kQ, at),
                       a->strides[kQ][1],
                       (T*)a->outputs[2] + (at.b * count * rows + at.t) * width,
                       rows * width,
                       a->dims[KD_DIM_has_wq] ? (const T*)a->inputs[kWq] : nullptr,
                       float(a->scalars[KD_SCALAR_eps])};
  turn_heads(tables, heads, count);
}

// The slot's row of the first head.
static T* page_row(const kd_arguments* a, int port, long width, const Position& at) {
  const long length = a->dims[KD_DIM_L], page = at.slot / length;
  const long row = page * a->dims[KD_DIM_Hk] * length + (at.slot - page * length);
  return (T*)a->outputs[port] + row * width;
}

static void append(const kd_arguments* a, const Tables& tables, const Position& at) {
  const long count = a->dims[KD_DIM_Hk], rows = a->dims[KD_DIM_L];
  const long width = a->dims[KD_DIM_D], v_width = a->dims[KD_DIM_Dv];
  const Heads heads = {row_at(a, kK, at),
                       a->strides[kK][1],
                       page_row(a, 0, width, at),
                       rows * width,
                       a->dims[KD_DIM_has_wk] ? (const T*)a->inputs[kWk] : nullptr,
                       float(a->scalars[KD_SCALAR_eps])};
  turn_heads(tables, heads, count);
  const T* const from = row_at(a, kV, at);
  T* const to = page_row(a, 1, v_width, at);
  for (long head = 0; head < count; ++head)
    __builtin_memcpy(to + head * rows * v_width, from + head * a->strides[kV][1],
                     (unsigned long)(v_width * long(sizeof(T))));
}

extern "C" void mlx_kd_qk_norm_rope_append_paged(const kd_arguments* a, long begin, long end) {
  const long* const dims = a->dims;
  const long count = dims[KD_DIM_M];
  const Rotation by = {a->scalars[KD_SCALAR_base],
                       a->scalars[KD_SCALAR_scale],
                       dims[KD_DIM_has_freqs] ? (const float*)a->inputs[kFreqs] : nullptr,
                       dims[KD_DIM_dims],
                       dims[KD_DIM_D],
                       dims[KD_DIM_traditional] != 0};
  float* const cosines =
      (float*)__builtin_alloca(2 * (unsigned long)table_size(by) * sizeof(float));
  float* const sines = cosines + table_size(by);
  const Tables tables = {by, cosines, sines};
  for (long unit = begin; unit < end; ++unit) {
    const long b = unit / count, t = unit - b * count;
    const long offset = ((const int*)a->inputs[kOffset])[dims[KD_DIM_ragged] ? b : 0];
    const long slot = ((const int*)a->inputs[kSlots])[unit];
    const Position at = {b, t, slot};
    fill_tables(by, offset + t, cosines, sines);
    turn_queries(a, tables, at);
    if (slot >= 0 && slot < dims[KD_DIM_P] * dims[KD_DIM_L]) append(a, tables, at);
  }
}
