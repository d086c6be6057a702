// gemm: y = x W^T (+ bias) (+ residual) for many rows of x, W as MLX stores it.
//
// inputs x (M, K); w; norm (K), bias (N), residual (M, N); output y (M, N). Two stages:
//
//   mlx_kd_gemm        a unit is a block of rows of x: they are normalised where there is a norm,
//                    and put in the order in which tiles read them
//   mlx_kd_gemm_panels  a unit is a panel of W
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
#define PREFETCH 0
#ifndef PANEL
#define PANEL 2048  // columns of W that are decoded at once, at most
#endif
#ifndef KD_DIM_M
#define KD_DIM_M 0
#define KD_DIM_N 1
#define KD_DIM_K 2
#define KD_DIM_has_norm 3
#define KD_DIM_has_bias 4
#define KD_DIM_has_residual 5
#define KD_SCALAR_eps 0
#endif
#define QUANTISED 0

#include "../call.cpu.h"
#include "../tiles.cpu.h"

constexpr int kNorm = 1 + kPerMatrix, kBias = kNorm + 1, kResidual = kBias + 1;

extern "C" void mlx_kd_gemm(const kd_arguments* a, long begin, long end) {
  const Shape shape = shape_of(a);
  const Prepared to = prepared_of(a);
  const T* const x = (const T*)a->inputs[0];
  const T* const norm = a->dims[KD_DIM_has_norm] ? (const T*)a->inputs[kNorm] : nullptr;
  for (long first = begin * kTileRows; first < end * kTileRows; first += kTileRows) {
    for (long row = first; row < first + kTileRows && row < shape.m; ++row)
      finished_row(shape, x, norm, float(a->scalars[KD_SCALAR_eps]), row, to);
    pack_block(shape, norm ? to.x : x, first, to);
  }
}

extern "C" void mlx_kd_gemm_panels(const kd_arguments* a, long begin, long end) {
  const long columns = a->dims[KD_DIM_N];
  const Matrix w = matrix_of(a, 0, columns);
  const Results to = {(T*)a->outputs[0], columns,
                      a->dims[KD_DIM_has_bias] ? (const T*)a->inputs[kBias] : nullptr,
                      a->dims[KD_DIM_has_residual] ? (const T*)a->inputs[kResidual] : nullptr};
  const auto sink = [&](long row, long column, Floats sums) {
    to.put(row, column, columns - column < kLanes ? columns - column : kLanes, sums);
  };
  for (long panel = begin; panel < end; ++panel)
    panel_product(shape_of(a), prepared_of(a), w, panel * kTileColumns, columns, sink);
}
