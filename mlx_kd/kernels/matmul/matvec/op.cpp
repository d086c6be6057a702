// matvec: y = x W^T of few rows, with a norm before and a bias and a residual after.
#include "mlx_kd/kernels/matmul/products.h"
#include "mlx_kd/kernels/op_table.h"

namespace mlx_kd::kernels {

spec::Op make_matvec() {
  spec::Op op = matmul::product_op({.name = "matvec",
                                    .summary = "y = x W^T of few rows, with a norm before and a "
                                               "bias and a residual after",
                                    .form = matmul::Form::single,
                                    .quantised = false});
  op.doc.brief =
      "y = x W^T for few rows of x, as decoding has them, in one call with what is around it: "
      "an RMSNorm of x before the product, a bias and a residual after it. Sums are float32, "
      "rounded once.";
  op.doc.parameters = {
      {"x", "[..., K], at least one axis."},
      {"w", "[N, K], of the type of x."},
      {"norm", "[K], the weight of an RMSNorm that x goes through first, or None."},
      {"bias", "[N], added to the rounded product, or None."},
      {"residual", "[..., N], added last, or None."},
      {"eps", "Positive; of the norm."}};
  op.doc.returns = "[..., N], of the type of x.";
  op.doc.errors = "Shapes that do not go together.";
  return op;
}

}  // namespace mlx_kd::kernels
