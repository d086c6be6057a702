// matvec_qkv: queries, keys and values of few rows of x in one call, W as MLX stores it.
//
// inputs x (M, K); w of each; norm (K), a bias of each; outputs q (M, Nq), k (M, Nk),
// v (M, Nv). Two stages:
//
//   mlx_kd_matvec_qkv       a unit is a row of x: it is normalised where there is a norm, and put
//   in
//                   the order in which the codes of W lie
//   mlx_kd_matvec_qkv_rows  a unit is a row of the three matrices, one after the other
#ifndef KD_DTYPE
#define KD_DTYPE 0  // 0 float32, 1 float16, 2 bfloat16
#endif
#ifndef VEC
#define VEC 16  // bytes of a vector of floats
#endif
#ifndef DOT
#define DOT 1  // 1: the processor's dot product of bfloat16, where it has one
#endif
#ifndef UNROLL
#define UNROLL 1  // steps a turn of the innermost loop
#endif
#ifndef PREFETCH
#define PREFETCH 0  // bytes ahead, where x does not stay in the first cache
#endif
#ifndef KD_DIM_M
#define KD_DIM_M 0
#define KD_DIM_Nq 1
#define KD_DIM_Nk 2
#define KD_DIM_Nv 3
#define KD_DIM_K 4
#define KD_DIM_has_norm 5
#define KD_DIM_has_bias 6
#define KD_SCALAR_eps 0
#endif
#define QUANTISED 0

#include "../call.cpu.h"

constexpr int kNorm = 1 + 3 * kPerMatrix, kBias = kNorm + 1;

extern "C" void mlx_kd_matvec_qkv(const kd_arguments* a, long begin, long end) {
  prepare(a, kNorm, begin, end);
}

extern "C" void mlx_kd_matvec_qkv_rows(const kd_arguments* a, long begin, long end) {
  const long counts[3] = {a->dims[KD_DIM_Nq], a->dims[KD_DIM_Nk], a->dims[KD_DIM_Nv]};
  long first = 0;  // of the matrix, among the rows of all three
  for (int i = 0; i < 3; first += counts[i], ++i) {
    const long from = begin > first ? begin - first : 0;
    const long to = end - first < counts[i] ? end - first : counts[i];
    if (from >= to) continue;
    put_rows(a, matrix_of(a, i, counts[i]), from, to,
             {(T*)a->outputs[i], counts[i],
              a->dims[KD_DIM_has_bias] ? (const T*)a->inputs[kBias + i] : nullptr, nullptr});
  }
}
