// qmatvec: y = x W^T for few rows of x, W quantised as MLX does.
//
// inputs x (M, K), w (N, K bits / 32) uint32, scales, biases (N, K / group), norm (K), bias (N),
// residual (M, N); output y (M, N). Two stages:
//
//   mlx_kd_qmatvec       a unit is a row of x: it is normalised and put in the order of the codes,
//                        with the sums of its groups, in scratch
//   mlx_kd_qmatvec_rows  a unit is a row of W. The first and the second half of a task's rows are
//                        two streams
#ifndef KD_DTYPE
#define KD_DTYPE 0  // 0 float32, 1 float16, 2 bfloat16
#endif
#ifndef VEC
#define VEC 16  // bytes of a vector of floats
#endif
#ifndef DOT
#define DOT 1  // 1: the processor's dot product of bfloat16, where it has one
#endif
#ifndef PREFETCH
#define PREFETCH 0  // bytes ahead, where x does not stay in the first cache
#endif
#define BF16 0
#define STREAM 0

#include "../../common/kd_arguments.h"
#include "../rows.cpu.h"

enum Input { kX, kW, kScales, kBiases, kNorm, kBias, kResidual };

static Shape shape_of(const kd_arguments* a) {
  return shape_of(a->dims[KD_DIM_M], a->dims[KD_DIM_K], a->dims[KD_DIM_bits],
                  a->dims[KD_DIM_group], a->dims[KD_DIM_mode]);
}

static Prepared prepared_of(const kd_arguments* a) {
  return {(unsigned short*)a->scratch[0], (float*)a->scratch[0], (float*)a->scratch[1],
          (T*)a->scratch[2]};
}

extern "C" void mlx_kd_qmatvec(const kd_arguments* a, long begin, long end) {
  const T* const norm = a->dims[KD_DIM_norm] ? (const T*)a->inputs[kNorm] : nullptr;
  for (long row = begin; row < end; ++row)
    prepare_row(shape_of(a), (const T*)a->inputs[kX], norm, float(a->scalars[KD_SCALAR_eps]), row,
                prepared_of(a));
}

extern "C" void mlx_kd_qmatvec_rows(const kd_arguments* a, long begin, long end) {
  const Matrix w = {(const unsigned char*)a->inputs[kW], (const unsigned char*)a->inputs[kScales],
                    (const unsigned char*)a->inputs[kBiases]};
  const long half = (end - begin + 1) / 2, columns = a->dims[KD_DIM_N];
  const long last[2] = {begin + half - 1, end - 1};
  const T* const bias = a->dims[KD_DIM_bias] ? (const T*)a->inputs[kBias] : nullptr;
  const T* const residual = a->dims[KD_DIM_residual] ? (const T*)a->inputs[kResidual] : nullptr;
  T* const y = (T*)a->outputs[0];
  // The product is rounded, then its sum with the bias, then that with the residual, as MLX does.
  const auto put = [&](long m, long row, long count, const T* from) {
    Floats value = float_lanes(take_some<Elements>(from, count));
    if (bias) value = rounded_lanes(value + float_lanes(take_some<Elements>(bias + row, count)));
    if (residual)
      value += float_lanes(take_some<Elements>(residual + m * columns + row, count));
    const Elements result = element_lanes(value);
    __builtin_memcpy(y + m * columns + row, &result, count * sizeof(T));
  };
  const auto sink = [&](long m, long first, long second, Floats sums) {
    T stored[kLanes];
    const Elements products = element_lanes(sums);
    __builtin_memcpy(stored, &products, sizeof stored);
    const long a_left = last[0] + 1 - first, b_left = last[1] + 1 - second;
    if (a_left > 0) put(m, first, a_left < kBatch ? a_left : kBatch, stored);
    if (b_left > 0) put(m, second, b_left < kBatch ? b_left : kBatch, stored + kBatch);
  };
  two_streams(shape_of(a), prepared_of(a), {w, begin}, {w, begin + half}, half, last, sink);
}
