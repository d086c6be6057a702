// matvec_gate_up: y = act(x Wg^T) * (x Wu^T) for few rows of x, W as MLX stores it.
//
// inputs x (M, K); w of the gate, then of up; norm (K); output y (M, N). The two products are
// rounded, the rest is float32. Two stages:
//
//   mlx_kd_matvec_gate_up       a unit is a row of x: it is normalised where there is a norm, and
//   put in
//                   the order in which the codes of W lie
//   mlx_kd_matvec_gate_up_rows  a unit is a row of both matrices, which are the two streams
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
#define KD_DIM_N 1
#define KD_DIM_K 2
#define KD_DIM_activation 3
#define KD_DIM_has_norm 4
#define KD_SCALAR_eps 0
#endif
#define QUANTISED 0

#include "../call.cpu.h"
#include "../gate.cpu.h"

constexpr int kNorm = 1 + 2 * kPerMatrix;

extern "C" void mlx_kd_matvec_gate_up(const kd_arguments* a, long begin, long end) {
  prepare(a, kNorm, begin, end);
}

extern "C" void mlx_kd_matvec_gate_up_rows(const kd_arguments* a, long begin, long end) {
  const long columns = a->dims[KD_DIM_N], activation = a->dims[KD_DIM_activation];
  const long last[2] = {end - 1, end - 1};
  T* const y = (T*)a->outputs[0];
  const auto sink = [&](long m, long row, long, Floats sums) {
    const Floats products = rounded_lanes(sums);
    const Elements result = element_lanes(activated(products, activation) * upper_lanes(products));
    const long count = end - row < kBatch ? end - row : kBatch;
    __builtin_memcpy(y + m * columns + row, &result, count * sizeof(T));
  };
  two_streams(shape_of(a), prepared_of(a), {matrix_of(a, 0, columns), begin},
              {matrix_of(a, 1, columns), begin}, end - begin, last, sink);
}
