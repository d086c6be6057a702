// y = x W^T (+ bias) (+ residual). Inputs behind the matrix: norm (K), bias (N), residual (M, N).
#pragma once
#include "call.cpu.h"

constexpr int kNorm = 1 + kPerMatrix;

static Results results_of(const kd_arguments* a) {
  return {(T*)a->outputs[0], a->dims[KD_DIM_N],
          a->dims[KD_DIM_has_bias] ? (const T*)a->inputs[kNorm + 1] : nullptr,
          a->dims[KD_DIM_has_residual] ? (const T*)a->inputs[kNorm + 2] : nullptr};
}
