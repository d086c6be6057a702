// expert_combine: y = sum over k of w_k y_k, the results of the chosen experts by their weights.
//
// inputs x (M, A, D) of type T; weights (M, A) of type T or float; output y (M, D). A product is
// rounded to the wider type of the two, as MLX rounds it, the sum is float32 and rounded once. A
// unit is a block of BLOCK columns of one token.
#ifndef KD_DTYPE
#define KD_DTYPE 0  // 0 float32, 1 float16, 2 bfloat16
#endif
#ifndef KD_DIM_M
#define KD_DIM_M 0
#define KD_DIM_A 1
#define KD_DIM_D 2
#define KD_DIM_wide 3
#endif
#ifndef VEC
#define VEC 16  // bytes of a vector of floats
#endif
#ifndef BF16
#define BF16 0  // bfloat16 is rounded by integer arithmetic (0) or by AVX512_BF16 (1)
#endif
#ifndef BLOCK
#define BLOCK 1024  // columns of a unit
#endif

#include "../../common/kd_arguments.h"
#include "../../common/steps.cpu.h"

KD_INLINE float first_lane(const T* from) {
  return load_some(from, 1).part[0][0];
}

struct Token {
  const T* x;  // (chosen, columns)
  const T* narrow;
  const float* wide;  // one of the two has the weights
  long chosen, columns;
};

// Columns [j, j + count) of a token, at most a step of them.
template <bool kAll>
KD_INLINE Step sum_of(const Token& token, long j, long count) {
  Step sum = {};
  for (long k = 0; k < token.chosen; ++k) {
    const T* const from = token.x + k * token.columns + j;
    Step part = kAll ? load(from) : load_some(from, count);
    const float weight = token.wide ? token.wide[k] : first_lane(token.narrow + k);
    KD_UNROLL
    for (int p = 0; p < kParts; ++p) part.part[p] = product(part.part[p], Floats{} + weight);
    if (!token.wide) part = rounded(part);
    KD_UNROLL
    for (int p = 0; p < kParts; ++p) sum.part[p] += part.part[p];
  }
  return sum;
}

extern "C" void mlx_kd_expert_combine(const kd_arguments* a, long begin, long end) {
  const long columns = a->dims[KD_DIM_D], chosen = a->dims[KD_DIM_A];
  const long blocks = (columns + BLOCK - 1) / BLOCK;
  for (long unit = begin; unit < end; ++unit) {
    const long row = unit / blocks, from = unit % blocks * BLOCK;
    const long to = from + BLOCK < columns ? from + BLOCK : columns;
    const bool is_wide = a->dims[KD_DIM_wide] != 0;
    const Token token = {(const T*)a->inputs[0] + row * chosen * columns,
                         (const T*)a->inputs[1] + (is_wide ? 0 : row * chosen),
                         is_wide ? (const float*)a->inputs[1] + row * chosen : nullptr, chosen,
                         columns};
    T* const y = (T*)a->outputs[0] + row * columns;
    long j = from;
    for (; j + kStep <= to; j += kStep) store(y + j, sum_of<true>(token, j, kStep));
    if (j < to) store_some(y + j, sum_of<false>(token, j, to - j), to - j);
  }
}
