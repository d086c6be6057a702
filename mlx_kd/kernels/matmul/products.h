// Products of x with weights as MLX stores them: what the operators matvec, qmatvec, their forms
// with two or three matrices, gemm and qgemm have in common. Everything but their words is here.
#pragma once

#include <string>

#include "mlx_kd/spec/op/op.h"

namespace mlx_kd::kernels::matmul {

enum class Form {
  single,   // y = x W^T (+ bias) (+ residual)
  gated,    // y = act(x Wg^T) * (x Wu^T), each product rounded
  queries,  // q, k, v = x Wq^T, x Wk^T, x Wv^T (+ a bias each)
};

struct Kind {
  std::string name;  // of the op, its folder and its kernel source
  std::string summary;
  Form form = Form::single;
  bool quantised = false;
  bool many_rows = false;  // of x: W is decoded once for all of them (a single form alone)
};

// Dims: M rows of x, N (or Nq, Nk, Nv) rows of W, K columns of both; M is leading and free.
// Attributes, all read off the arrays but `activation`: bits, group and mode (0 affine, 1 mxfp4, 2
// mxfp8, 3 nvfp4) of quantised weights, and whether norm, bias, residual are there. `norm` is the
// weight of an RMSNorm that x goes through first, rounded as MLX rounds it, with the scalar eps.
//
// Quantised weights are MLX's arrays: uint32 codes [N, K bits / 32], scales [N, K / group] and, of
// an affine format, biases of the same shape: of type T, or bytes (no affine format). The result is
// the exact sum of x (scale code + bias), rounded once; MLX on a CPU rounds to the type after each
// product and sum.
spec::Op product_op(const Kind& kind);

}  // namespace mlx_kd::kernels::matmul
