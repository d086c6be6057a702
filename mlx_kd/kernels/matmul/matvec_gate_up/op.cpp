// matvec_gate_up: y = act(x Wg^T) * (x Wu^T) of few rows, with a norm before.
#include "mlx_kd/kernels/matmul/products.h"
#include "mlx_kd/kernels/op_table.h"

namespace mlx_kd::kernels {

spec::Op make_matvec_gate_up() {
  spec::Op op = matmul::product_op({.name = "matvec_gate_up",
                                    .summary = "y = act(x Wg^T) * (x Wu^T) of few rows, with a "
                                               "norm before",
                                    .form = matmul::Form::gated,
                                    .quantised = false});
  op.doc.brief =
      "The gated half of a feed-forward layer for few rows of x: y = act(x Wg^T) * (x Wu^T), with "
      "an RMSNorm of x before it. Sums are float32, rounded once.";
  op.doc.parameters = {
      {"x", "[..., K], at least one axis."},
      {"w_gate", "[N, K], of the type of x."},
      {"w_up", "[N, K], of the type of x."},
      {"norm", "[K], the weight of an RMSNorm that x goes through first, or None."},
      {"eps", "Positive; of the norm."},
      {"activation", "0: silu; 1: GELU in its tanh form."}};
  op.doc.returns = "[..., N], of the type of x.";
  op.doc.errors = "Shapes that do not go together.";
  return op;
}

}  // namespace mlx_kd::kernels
