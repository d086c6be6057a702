// qgemm: y = x W^T of many rows, with a norm before and a bias and a residual after.
#include "mlx_kd/kernels/matmul/products.h"
#include "mlx_kd/kernels/op_table.h"

namespace mlx_kd::kernels {

spec::Op make_qgemm() {
  spec::Op op = matmul::product_op({.name = "qgemm",
                                    .summary = "y = x W^T of many rows, with a norm before and a "
                                               "bias and a residual after, W quantised",
                                    .form = matmul::Form::single,
                                    .quantised = true,
                                    .many_rows = true});
  op.doc.brief =
      "y = x W^T for many rows of x, as prompts have them, in one call with what is around it: "
      "an RMSNorm of x before the product, a bias and a residual after it. W is quantised as "
      "mx.quantize does, in any of its formats; bits, groups and format are read off the arrays. "
      "The product is the exact sum, rounded once, where MLX on a CPU rounds after each term.";
  op.doc.parameters = {
      {"x", "[..., K], at least one axis."},
      {"w", "uint32 [N, K bits / 32], as mx.quantize gives them."},
      {"scales", "[N, K / group] of the type of x, or uint8 of mxfp4, mxfp8 and nvfp4."},
      {"biases", "Shape as the scales; None where the format has none."},
      {"norm", "[K], the weight of an RMSNorm that x goes through first, or None."},
      {"bias", "[N], added to the rounded product, or None."},
      {"residual", "[..., N], added last, or None."},
      {"eps", "Positive; of the norm."}};
  op.doc.returns = "[..., N], of the type of x.";
  op.doc.errors = "Shapes that do not go together; a format that MLX does not have.";
  return op;
}

}  // namespace mlx_kd::kernels
