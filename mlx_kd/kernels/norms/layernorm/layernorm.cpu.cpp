// layernorm: y = (x - mean) * rsqrt(variance + eps) * w + b by rows.
//
// inputs x (rows, D), w (D), b (D), the last two if the sizes say so; output y (rows, D); dims
// rows, D, has_weight, has_bias; params eps; a unit is a row. The row is read three times: for its
// mean, for the squares of what is left, and to be scaled. Includes no header, so that it compiles
// in a tenth of a second.
#ifndef KD_DTYPE
#define KD_DTYPE 0  // 0 float32, 1 float16, 2 bfloat16
#endif
#ifndef VEC
#define VEC 16  // bytes of a vector of floats
#endif
#ifndef BF16
#define BF16 0  // bfloat16 is rounded by integer arithmetic (0) or by AVX512_BF16 (1)
#endif
#ifndef ACC
#define ACC 4  // steps summed independently
#endif
#ifndef UNROLL
#define UNROLL 4  // steps a turn of the scaling loop
#endif
#ifndef RSQRT
#define RSQRT 0  // 0: 1 / sqrt; 1: the processor's estimate and a Newton step
#endif

#include "../../common/steps.cpu.h"
#include "../rows.cpu.h"

// The sum of (x - minus)^2, or of x.
template <bool kSquares>
KD_INLINE void add_step(Floats& sum, const Step& x, float minus) {
  KD_UNROLL
  for (int p = 0; p < kParts; ++p) {
    const Floats rest = x.part[p] - minus;
    sum += kSquares ? rest * rest : x.part[p];
  }
}

template <bool kSquares>
static float sum_row(const T* __restrict x, long d, float minus) {
  Floats parts[ACC] = {};
  long j = 0;
  for (; j + ACC * kStep <= d; j += ACC * kStep) {
    KD_UNROLL
    for (int k = 0; k < ACC; ++k) add_step<kSquares>(parts[k], load(x + j + k * kStep), minus);
  }
  for (; j + kStep <= d; j += kStep) add_step<kSquares>(parts[0], load(x + j), minus);
  KD_UNROLL
  for (int k = 1; k < ACC; ++k) parts[0] += parts[k];
  float sum = total(parts[0]);
  if (j < d) {
    const Step step = load_some(x + j, d - j);
    for (long i = 0; i < d - j; ++i) {
      const float value = step.part[i % kParts][i / kParts], rest = value - minus;
      sum += kSquares ? rest * rest : value;
    }
  }
  return sum;
}

struct Scaling {
  const T *weight, *bias;  // or null
  float mean, scale;
};

KD_INLINE Step load_up_to(const T* from, long count) {
  return count < kStep ? load_some(from, count) : load(from);
}

KD_INLINE Step scaled(Step x, const Scaling& by, long at, long count) {
  KD_UNROLL
  for (int p = 0; p < kParts; ++p) x.part[p] = (x.part[p] - by.mean) * by.scale;
  if (by.weight) {
    const Step w = load_up_to(by.weight + at, count);
    KD_UNROLL
    for (int p = 0; p < kParts; ++p) x.part[p] *= w.part[p];
  }
  if (by.bias) {
    const Step b = load_up_to(by.bias + at, count);
    KD_UNROLL
    for (int p = 0; p < kParts; ++p) x.part[p] += b.part[p];
  }
  return x;
}

static void norm_row(const T* __restrict x, T* __restrict y, long d, float eps, Scaling by) {
  by.mean = sum_row<false>(x, d, 0.0f) * float(1.0 / double(d));
  by.scale = scale_of(sum_row<true>(x, d, by.mean), d, eps);
  long j = 0;
  for (; j + UNROLL * kStep <= d; j += UNROLL * kStep) {
    KD_UNROLL
    for (int k = 0; k < UNROLL; ++k) {
      const long at = j + k * kStep;
      store(y + at, scaled(load(x + at), by, at, kStep));
    }
  }
  for (; j + kStep <= d; j += kStep) store(y + j, scaled(load(x + j), by, j, kStep));
  if (j < d) store_some(y + j, scaled(load_some(x + j, d - j), by, j, d - j), d - j);
}

extern "C" void mlx_kd_layernorm(const void* const* inputs, void* const* outputs, const long* dims,
                                 const double* params, long begin, long end) {
  const long d = dims[1];
  const Scaling by = {dims[2] ? (const T*)inputs[1] : nullptr,
                      dims[3] ? (const T*)inputs[2] : nullptr, 0.0f, 0.0f};
  for (long row = begin; row < end; ++row)
    norm_row((const T*)inputs[0] + row * d, (T*)outputs[0] + row * d, d, float(params[0]), by);
}
