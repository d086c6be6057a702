// qmatvec with x in int8: y = x W^T (+ bias) (+ residual) for few rows of x, quantised W as MLX
// stores it.
//
// As qmatvec.cpu.cpp has it, but where int8.cpu.h takes the format each 8 or 4 neighbours of x are
// rounded to 255 steps between minus and plus their largest: off by 1 / 254 of it at most.
#include "../rows/knobs.cpu.h"
#ifndef KD_DIM_M
#define KD_DIM_M 0
#define KD_DIM_N 1
#define KD_DIM_K 2
#define KD_DIM_bits 3
#define KD_DIM_group 4
#define KD_DIM_mode 5
#define KD_DIM_has_norm 6
#define KD_DIM_has_bias 7
#define KD_DIM_has_residual 8
#define KD_SCALAR_eps 0
#endif
#define QUANTISED 1

#include "../rows/int8.cpu.h"
#include "../rows/single.cpu.h"

extern "C" void mlx_kd_qmatvec_int8(const kd_arguments* a, long begin, long end) {
  const Shape shape = shape_of(a);
  if (!takes_int8(shape)) return prepare(a, kNorm, begin, end);
  const T* const norm = a->dims[KD_DIM_has_norm] ? (const T*)a->inputs[kNorm] : nullptr;
  for (long row = begin; row < end; ++row) {
    const T* const x = (const T*)a->inputs[0] + row * shape.k;
    const Prepared to = prepared_of(a);
    prepare_int8_row(shape, finished_row(shape, x, norm, float(a->scalars[KD_SCALAR_eps]), row, to),
                     row, to);
  }
}

extern "C" void mlx_kd_qmatvec_int8_rows(const kd_arguments* a, long begin, long end) {
  const Shape shape = shape_of(a);
  const Matrix w = matrix_of(a, 0, a->dims[KD_DIM_N]);
  if (takes_int8(shape))
    put_int8_rows(shape, prepared_of(a), w, begin, end, results_of(a));
  else
    put_rows(a, w, begin, end, results_of(a));
}
