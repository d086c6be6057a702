// gemm: y = x W^T of many rows, with a norm before and a bias and a residual after.
#include "mlx_kd/kernels/matmul/gemm/cuda_variant.h"
#include "mlx_kd/kernels/matmul/products.h"
#include "mlx_kd/kernels/op_table.h"

namespace mlx_kd::kernels {

spec::Op make_gemm() {
  spec::Op op = matmul::product_op({.name = "gemm",
                                    .summary = "y = x W^T of many rows, with a norm before and a "
                                               "bias and a residual after",
                                    .form = matmul::Form::single,
                                    .quantised = false,
                                    .many_rows = true});
  op.doc.brief =
      "y = x W^T for many rows of x, as prompts have them, in one call with what is around it: "
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
  op.variants.push_back(matmul::gemm_in_cuda());
  return op;
}

}  // namespace mlx_kd::kernels
