// clang-format off
// The operands of matmul on an NVIDIA GPU, and what becomes of a sum.
#pragma once
#ifndef KD_DIM_batch
#define KD_DIM_batch 0
#define KD_DIM_M 1
#define KD_DIM_N 2
#define KD_DIM_K 3
#define KD_DIM_transpose_a 4
#define KD_DIM_transpose_b 5
#define KD_DIM_activation 6
#define KD_DIM_has_c 7
#define KD_DIM_has_bias 8
#define KD_SCALAR_alpha 0
#define KD_SCALAR_beta 1
#endif

#include "../../common/kd_arguments.h"
#include "../../common/numbers.cu.h"

constexpr int kOfChunk = 16 / (int)sizeof(T);  // elements of 16 bytes

// One operand: its memory has rows of K elements, or rows of K where `by_k`.
struct Operand {
  const T* at;
  long pitch, lines, depth;  // lines: M or N
  bool by_k, aligned;

  __device__ Operand(const kd_arguments& a, int port, long item, long lines, bool by_k)
      : at((const T*)a.inputs[port] + item * a.strides[port][1]),
        pitch(a.strides[port][2]),
        lines(lines),
        depth(a.dims[KD_DIM_K]),
        by_k(by_k),
        aligned(a.strides[port][1] % kOfChunk == 0 && pitch % kOfChunk == 0) {}
};

static __device__ float activated(float x, long activation) {
  if (activation == 1) return x < 0.0f ? 0.0f : x;
  if (activation < 2) return x;
  const float inner = activation == 2 ? x : 1.5957691216f * (x + 0.044715f * (x * x * x));
  return x / (1.0f + expf(-fminf(fmaxf(inner, -87.0f), 87.0f)));
}

// Of a matrix of the batch.
static __device__ T result_of(const kd_arguments& a, float sum, long item, long row, long column) {
  float y = float(a.scalars[KD_SCALAR_alpha]) * sum;
  if (a.dims[KD_DIM_has_c])
    y = fmaf(float(a.scalars[KD_SCALAR_beta]),
             widen(((const T*)a.inputs[2])[item * a.strides[2][1] + row * a.strides[2][2] + column]), y);
  if (a.dims[KD_DIM_has_bias]) y += widen(((const T*)a.inputs[3])[column]);
  return narrow(activated(y, a.dims[KD_DIM_activation]));
}
static __device__ bool is_plain(const kd_arguments& a) {
  return a.scalars[KD_SCALAR_alpha] == 1 && !(a.dims[KD_DIM_has_c] | a.dims[KD_DIM_has_bias] | a.dims[KD_DIM_activation]);
}
