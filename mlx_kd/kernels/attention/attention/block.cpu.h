// A block of query rows that share a key head: which keys its rows see, and what limits
// their scores.
#pragma once
#include "../../common/kd_arguments.h"
#include "../chunks.cpu.h"
#ifndef KD_DIM_S
#define KD_DIM_S 0
#define KD_DIM_B 1
#define KD_DIM_Hq 2
#define KD_DIM_Hk 3
#define KD_DIM_M 4
#define KD_DIM_Dk 5
#define KD_DIM_Dv 6
#define KD_DIM_causal 7
#define KD_DIM_window 8
#define KD_DIM_has_mask 9
#define KD_DIM_has_sinks 10
#define KD_DIM_has_bias 11
#define KD_SCALAR_scale 0
#endif

struct Block {
  const kd_arguments* a;
  long b, key_head, group, first, rows;  // group: query heads of a key head
  const T *k, *v;
  long k_stride, v_stride;
  long begin, end;              // keys that some row sees
  long whole_begin, whole_end;  // keys that every row sees; no mask, no bias
  Ints low[kVectors], high[kVectors];
};

#include "../places.cpu.h"

// Keys that row t sees: those from `low` up to `high`.
struct Keys {
  long low, high;
};
static Keys keys_of(const Block& block, long t) {
  const long s = dim(block, KD_DIM_S), window = dim(block, KD_DIM_window);
  const long position = s - dim(block, KD_DIM_M) + t;
  const long high = dim(block, KD_DIM_causal) ? position + 1 : s;
  const long low = window > 0 ? position - window + 1 : 0;
  return {low > 0 ? low : 0, high > 0 ? high : 0};
}

// Rows see more of the later keys and less of the earlier ones from one to the next.
static void set_limits(Block& block) {
  const long s = dim(block, KD_DIM_S);
  const Keys first = keys_of(block, place_of(block, 0).t);
  const Keys last = keys_of(block, place_of(block, block.rows - 1).t);
  const bool any_key = dim(block, KD_DIM_has_mask) || first.high <= first.low;
  block.begin = any_key ? 0 : first.low;
  block.end = any_key ? s : last.high;
  block.whole_begin = last.low;
  block.whole_end = first.high;
  if (dim(block, KD_DIM_has_mask) || dim(block, KD_DIM_has_bias)) block.whole_end = 0;
  int* const low = (int*)block.low;
  int* const high = (int*)block.high;
  Keys keys = first;
  for (long r = 0; r < kVectors * kRows; ++r) {
    if (r < block.rows) keys = keys_of(block, place_of(block, r).t);
    for (long lane = 4 * r; lane < 4 * r + 4; ++lane)
      low[lane] = int(keys.low), high[lane] = int(keys.high);
  }
}

static void open_block(Block& block, const kd_arguments* a, long index) {
  const long heads = a->dims[KD_DIM_Hk];
  block.a = a;
  block.group = a->dims[KD_DIM_Hq] / heads;
  const long all_rows = block.group * a->dims[KD_DIM_M], blocks = (all_rows + ROWS - 1) / ROWS;
  const long head = index / blocks;
  block.b = head / heads;
  block.key_head = head - block.b * heads;
  block.first = (index - head * blocks) * ROWS;
  block.rows = all_rows - block.first < ROWS ? all_rows - block.first : ROWS;
  const long *ks = a->strides[1], *vs = a->strides[2];
  block.k = (const T*)a->inputs[1] + block.b * ks[0] + block.key_head * ks[1];
  block.v = (const T*)a->inputs[2] + block.b * vs[0] + block.key_head * vs[1];
  block.k_stride = ks[2], block.v_stride = vs[2];
  set_limits(block);
}

// Four elements of a mask or bias for each row of a vector, from key j on.
template <class Element>
KD_INLINE void gather(const Block& block, int port, int vector, long j, Element (&to)[kLanes]) {
  const long* strides = block.a->strides[port];
  const long left = dim(block, KD_DIM_S) - j;
  for (int i = 0; i < kRows; ++i) {
    const long r = vector * kRows + i;
    const Place at = place_of(block, r < block.rows ? r : block.rows - 1);
    const Element* from = (const Element*)block.a->inputs[port] + block.b * strides[0] +
                          at.head * strides[1] + at.t * strides[2] + j;
    if (left >= 4)
      __builtin_memcpy(to + 4 * i, from, 4 * sizeof(Element));
    else
      for (long e = 0; e < 4; ++e) to[4 * i + e] = e < left ? from[e] : Element(0);
  }
}

static Floats limited(const Block& block, int vector, long j, Floats score) {
  if (dim(block, KD_DIM_has_bias)) {
    T bias[kLanes];
    gather(block, 5, vector, j, bias);
    typedef T Elements __attribute__((vector_size(kLanes * sizeof(T))));
    Elements elements;
    __builtin_memcpy(&elements, bias, sizeof elements);
#if KD_DTYPE == 2
    score += (Floats)(__builtin_convertvector(elements, Uints) << 16) * kLog2E;
#else
    score += widen(elements).part[0] * kLog2E;
#endif
  }
  Ints index = Ints{} + int(j);
  for (int i = 0; i < kLanes; ++i) index[i] += i % 4;
  Ints seen = (index >= block.low[vector]) & (index < block.high[vector]);
  if (dim(block, KD_DIM_has_mask)) {
    typedef unsigned char Byte;
    typedef Byte Bytes __attribute__((vector_size(kLanes)));
    Byte mask[kLanes];
    gather(block, 3, vector, j, mask);
    Bytes bytes;
    __builtin_memcpy(&bytes, mask, sizeof bytes);
    seen &= __builtin_convertvector(bytes, Ints) != 0;
  }
  return seen ? score : all(kMasked);
}

KD_INLINE const T* values_ahead(const Block& block, long key) {
  return block.v + key * block.v_stride;
}

#include "../tiles.cpu.h"
