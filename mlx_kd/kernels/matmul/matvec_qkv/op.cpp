// matvec_qkv: queries, keys and values of few rows in one call, with a norm before.
#include "mlx_kd/kernels/matmul/products.h"
#include "mlx_kd/kernels/op_table.h"

namespace mlx_kd::kernels {

spec::Op make_matvec_qkv() {
  spec::Op op = matmul::product_op({.name = "matvec_qkv",
                                    .summary = "queries, keys and values of few rows in one call, "
                                               "with a norm before",
                                    .form = matmul::Form::queries,
                                    .quantised = false});
  op.doc.brief =
      "Queries, keys and values of an attention layer for few rows of x: q, k, v = x Wq^T, x Wk^T, "
      "x Wv^T, with an RMSNorm of x before them and a bias each after them. Sums are float32, "
      "rounded once.";
  op.doc.parameters = {
      {"x", "[..., K], at least one axis."},
      {"wq", "[Nq, K], of the type of x."},
      {"wk", "[Nk, K], of the type of x."},
      {"wv", "[Nv, K], of the type of x."},
      {"norm", "[K], the weight of an RMSNorm that x goes through first, or None."},
      {"bias_q", "[Nq], or None."},
      {"bias_k", "[Nk], or None."},
      {"bias_v", "[Nv], or None."},
      {"eps", "Positive; of the norm."}};
  op.doc.returns = "q [..., Nq], k [..., Nk], v [..., Nv], of the type of x.";
  op.doc.errors = "Shapes that do not go together.";
  return op;
}

}  // namespace mlx_kd::kernels
