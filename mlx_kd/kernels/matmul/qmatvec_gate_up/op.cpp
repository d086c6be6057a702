// qmatvec_gate_up: y = act(x Wg^T) * (x Wu^T) of few rows, with a norm before.
#include "mlx_kd/kernels/matmul/products.h"
#include "mlx_kd/kernels/op_table.h"

namespace mlx_kd::kernels {

spec::Op make_qmatvec_gate_up() {
  spec::Op op = matmul::product_op({.name = "qmatvec_gate_up",
                                    .summary = "y = act(x Wg^T) * (x Wu^T) of few rows, with a "
                                               "norm before, W quantised",
                                    .form = matmul::Form::gated,
                                    .quantised = true});
  op.doc.brief =
      "The gated half of a feed-forward layer for few rows of x: y = act(x Wg^T) * (x Wu^T), with "
      "an RMSNorm of x before it. W is quantised as mx.quantize does, in any of its formats; bits, "
      "groups and format are read off the arrays. The product is the exact sum, rounded once, "
      "where MLX on a CPU rounds after each term.";
  op.doc.parameters = {
      {"x", "[..., K], at least one axis."},
      {"w_gate", "uint32 [N, K bits / 32], as mx.quantize gives them."},
      {"scales_gate", "[N, K / group] of the type of x, or uint8 of mxfp4, mxfp8 and nvfp4."},
      {"biases_gate", "Shape as the scales; None where the format has none."},
      {"w_up", "uint32 [N, K bits / 32]."},
      {"scales_up", "[N, K / group]."},
      {"biases_up", "Shape as the scales, or None."},
      {"norm", "[K], the weight of an RMSNorm that x goes through first, or None."},
      {"eps", "Positive; of the norm."},
      {"activation", "0: silu; 1: GELU in its tanh form."}};
  op.doc.returns = "[..., N], of the type of x.";
  op.doc.errors = "Shapes that do not go together; a format that MLX does not have.";
  return op;
}

}  // namespace mlx_kd::kernels
