// gather_qgemm: y = x W^T of many tokens, W that of each chosen expert, quantised.
#include "mlx_kd/kernels/matmul/experts.h"
#include "mlx_kd/kernels/op_table.h"

namespace mlx_kd::kernels {

spec::Op make_gather_qgemm() {
  spec::Op op = matmul::expert_product_op(
      {.name = "gather_qgemm",
       .summary = "y = x W^T of many tokens, W that of each chosen expert, quantised",
       .form = matmul::Form::single,
       .quantised = true,
       .many_rows = true});
  op.doc.brief =
      "y = x W^T for the experts that each token has chosen, as mx.gather_qmm with rhs_indices, "
      "with a bias an expert after it, for many tokens, as prompts have them. The tokens of an "
      "expert are multiplied together, in any order of the ids. W is quantised as mx.quantize "
      "does, in any of its formats; bits, groups and format are read off the arrays. The product "
      "is the exact sum, rounded once, where MLX on a CPU rounds after each term.";
  op.doc.parameters = {
      {"x", "[..., 1, K], a row per token, or [..., A, K], a row for each of its experts."},
      {"ids",
       "uint32 [..., A], the experts. A kernel's results of an id from E on are NaN, and it "
       "reads nothing for them; MLX's form, which runs where no kernel does, reads what lies "
       "there."},
      {"w", "uint32 [E, N, K bits / 32], as mx.quantize gives them."},
      {"scales", "[E, N, K / group] of the type of x, or uint8 of mxfp4, mxfp8 and nvfp4."},
      {"biases", "Shape as the scales; None where the format has none."},
      {"bias", "[E, N], added to the rounded product, or None."}};
  op.doc.returns = "[..., A, N], of the type of x.";
  op.doc.errors = "Shapes that do not go together; a format that MLX does not have.";
  return op;
}

}  // namespace mlx_kd::kernels
