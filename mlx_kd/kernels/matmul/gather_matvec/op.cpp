// gather_matvec: y = x W^T of few tokens, W that of each chosen expert.
#include "mlx_kd/kernels/matmul/experts.h"
#include "mlx_kd/kernels/op_table.h"

namespace mlx_kd::kernels {

spec::Op make_gather_matvec() {
  spec::Op op =
      matmul::expert_product_op({.name = "gather_matvec",
                                 .summary = "y = x W^T of few tokens, W that of each chosen expert",
                                 .form = matmul::Form::single,
                                 .quantised = false});
  op.doc.brief =
      "y = x W^T for the experts that each token has chosen, as mx.gather_mm with rhs_indices, "
      "with a bias an expert after it. Only the chosen experts' weights are read. Sums are "
      "float32, rounded once.";
  op.doc.parameters = {
      {"x", "[..., 1, K], a row per token, or [..., A, K], a row for each of its experts."},
      {"ids",
       "uint32 [..., A], the experts. A kernel's results of an id from E on are NaN, and it "
       "reads nothing for them; MLX's form, which runs where no kernel does, reads what lies "
       "there."},
      {"w", "[E, N, K], of the type of x."},
      {"bias", "[E, N], added to the rounded product, or None."}};
  op.doc.returns = "[..., A, N], of the type of x.";
  op.doc.errors = "Shapes that do not go together.";
  return op;
}

}  // namespace mlx_kd::kernels
