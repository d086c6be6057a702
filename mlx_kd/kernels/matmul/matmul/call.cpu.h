// The arguments of matmul: y (batch, M, N) = act(alpha op(a) op(b) + beta c + bias).
//
// Inputs a (batch, M, K), or (batch, K, M) where transpose_a; b (batch, K, N), or (batch, N, K)
// where transpose_b; c (batch, M, N); bias (N). a, b and c have any strides but 1 on the last axis.
#pragma once
#include "../tiles/finish.cpu.h"
#include "../tiles/words.cpu.h"

#ifndef KD_DIM_M
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

struct Sizes {
  long batch, m, n, k;
};
KD_INLINE Sizes sizes_of(const kd_arguments* a) {
  return {a->dims[KD_DIM_batch], a->dims[KD_DIM_M], a->dims[KD_DIM_N], a->dims[KD_DIM_K]};
}

KD_INLINE Operand operand_of(const kd_arguments* a, int input, bool k_is_last, long item,
                             long count) {
  const long* const strides = a->strides[input];
  const T* const base = (const T*)a->inputs[input] + item * strides[1];
  return k_is_last ? Operand{base, strides[2], 1, count} : Operand{base, 1, strides[2], count};
}
KD_INLINE Operand operand_a(const kd_arguments* a, long item) {
  return operand_of(a, 0, !a->dims[KD_DIM_transpose_a], item, a->dims[KD_DIM_M]);
}
KD_INLINE Operand operand_b(const kd_arguments* a, long item) {
  return operand_of(a, 1, a->dims[KD_DIM_transpose_b], item, a->dims[KD_DIM_N]);
}

KD_INLINE Finish finish_of(const kd_arguments* a, long item) {
  const long m = a->dims[KD_DIM_M], n = a->dims[KD_DIM_N];
  Finish to = {(T*)a->outputs[0] + item * m * n, n, nullptr, 0, nullptr, 0, 0, 0};
  if (a->dims[KD_DIM_has_c])
    to.c = (const T*)a->inputs[2] + item * a->strides[2][1], to.c_stride = a->strides[2][2];
  if (a->dims[KD_DIM_has_bias]) to.bias = (const T*)a->inputs[3];
  to.alpha = float(a->scalars[KD_SCALAR_alpha]), to.beta = float(a->scalars[KD_SCALAR_beta]);
  to.activation = a->dims[KD_DIM_activation];
  return to;
}
