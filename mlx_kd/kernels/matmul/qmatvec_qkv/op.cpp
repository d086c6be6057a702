// qmatvec_qkv: queries, keys and values of few rows in one call, with a norm before.
#include "mlx_kd/kernels/matmul/products.h"
#include "mlx_kd/kernels/op_table.h"

namespace mlx_kd::kernels {

spec::Op make_qmatvec_qkv() {
  spec::Op op = matmul::product_op({.name = "qmatvec_qkv",
                                    .summary = "queries, keys and values of few rows in one call, "
                                               "with a norm before, W quantised",
                                    .form = matmul::Form::queries,
                                    .quantised = true});
  op.doc.brief =
      "Queries, keys and values of an attention layer for few rows of x: q, k, v = x Wq^T, x Wk^T, "
      "x Wv^T, with an RMSNorm of x before them and a bias each after them. W is quantised as "
      "mx.quantize does, in any of its formats; bits, groups and format are read off the arrays. "
      "The product is the exact sum, rounded once, where MLX on a CPU rounds after each term.";
  op.doc.parameters = {
      {"x", "[..., K], at least one axis."},
      {"wq", "uint32 [Nq, K bits / 32], as mx.quantize gives them."},
      {"scales_q", "[Nq, K / group] of the type of x, or uint8 of mxfp4, mxfp8 and nvfp4."},
      {"biases_q", "Shape as the scales; None where the format has none."},
      {"wk", "uint32 [Nk, K bits / 32]."},
      {"scales_k", "[Nk, K / group]."},
      {"biases_k", "Shape as the scales, or None."},
      {"wv", "uint32 [Nv, K bits / 32]."},
      {"scales_v", "[Nv, K / group]."},
      {"biases_v", "Shape as the scales, or None."},
      {"norm", "[K], the weight of an RMSNorm that x goes through first, or None."},
      {"bias_q", "[Nq], or None."},
      {"bias_k", "[Nk], or None."},
      {"bias_v", "[Nv], or None."},
      {"eps", "Positive; of the norm."}};
  op.doc.returns = "q [..., Nq], k [..., Nk], v [..., Nv], of the type of x.";
  op.doc.errors = "Shapes that do not go together; a format that MLX does not have.";
  return op;
}

}  // namespace mlx_kd::kernels
