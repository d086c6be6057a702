// What the forward and the backward kernel of mlstm_chunkwise have in common: their knobs, their
// dims, and what they do alike for a chunk of a head.
#pragma once
#ifndef KD_DTYPE
#define KD_DTYPE 0  // 0 float32, 1 float16, 2 bfloat16
#endif
#ifndef VEC
#define VEC 16  // bytes of a vector of floats
#endif
#ifndef ROWS
#define ROWS 4  // rows that a product works on together
#endif
#ifndef TILE
#define TILE 2  // vectors of columns that it works on together
#endif
#include "../../common/kd_arguments.h"
#include "../gates.cpu.h"

#ifndef KD_DIM_S
#define KD_DIM_heads 0
#define KD_DIM_S 1
#define KD_DIM_DHQK 2
#define KD_DIM_DHHV 3
#define KD_DIM_siging 4
#define KD_DIM_normalize 5
#define KD_DIM_normalizer_grad 6
#define KD_DIM_chunk 7
#define KD_DIM_has_state 8
#define KD_SCALAR_eps 0
#endif

struct Sizes {
  long s, chunk, chunks, qk, hv;  // tokens, of a chunk, chunks, DHQK, DHHV
  long room, rows_qk, rows_hv;    // padded to lines
  long by_token, by_qk, by_hv;    // strides of blocks with so many columns
};
KD_INLINE Sizes sizes_of(long s, long chunk, long qk, long hv) {
  return {s,
          chunk,
          (s + chunk - 1) / chunk,
          qk,
          hv,
          padded(chunk),
          padded(qk),
          padded(hv),
          stride_of(chunk),
          stride_of(qk),
          stride_of(hv)};
}

// Takes blocks from memory one after the other; `at` null only counts.
struct Blocks {
  float* at;
  long count = 0;
  float* take(long floats) {
    float* const from = at + count;
    count += floats;
    return from;
  }
};

// exp(U - X) o left of the rows t < count of a chunk, 0 right of the diagonal to the end of its
// line; `sums`: of each row.
KD_APART void weigh(const Gates& g, const Sizes& z, long count, const float* scores,
                    float* weighted, float* sums) {
  for (long t = 0; t < padded(count); ++t) {
    Floats sum = {};
    for (long s = 0; s < padded(t + 1); s += kFloats) {
      // A token that has no weight has none with a NaN either.
      const Floats weight = t < count ? weights(g, t, s) : Floats{};
      const Floats made = weight == 0.0f ? Floats{} : weight * load(scores + t * z.by_token + s);
      store(weighted + t * z.by_token + s, made);
      sum += made;
    }
    sums[t] = sum_of(sum);
  }
}

// What the state at the end of a chunk takes over of itself, and of each token.
KD_INLINE float find_shares(const Gates& g, long count, float* of_tokens) {
  for (long s = 0; s < padded(count); s += kFloats) store(of_tokens + s, weights(g, count - 1, s));
  return g.past[count - 1];
}

// The state after the chunk; rows of k are scaled by what it takes of them.
KD_APART void take_chunk(const Sizes& z, long count, float past, float* k, const float* v, float* c,
                         float* n) {
  multiply({c, z.by_hv, z.rows_qk, z.rows_hv, v, z.by_hv, count}, Left<true>{k, z.by_qk}, Part::all,
           past);
  scale(n, past, z.rows_qk);
  for (long s = 0; s < count; ++s) blend(n, 1, k + s * z.by_qk, 1, z.rows_qk);
}
KD_INLINE void scale_rows(float* rows, long stride, long columns, const float* by, long count) {
  for (long r = 0; r < count; ++r) scale(rows + r * stride, by[r], columns);
}

// 1 / (N + eps) of each row, N the larger of |sum| and the floor; 1 without normaliser.
KD_INLINE float normaliser(float sum, float floor, float eps, bool normalize) {
  const float size = sum < 0 ? -sum : sum;
  return normalize ? 1 / ((size > floor || size != size ? size : floor) + eps) : 1.0f;
}
