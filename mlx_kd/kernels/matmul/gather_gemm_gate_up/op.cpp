// gather_gemm_gate_up: y = act(x Wg^T) * (x Wu^T) of many tokens, the W of each chosen expert.
#include "mlx_kd/kernels/matmul/experts.h"
#include "mlx_kd/kernels/op_table.h"

namespace mlx_kd::kernels {

spec::Op make_gather_gemm_gate_up() {
  spec::Op op = matmul::expert_product_op(
      {.name = "gather_gemm_gate_up",
       .summary = "y = act(x Wg^T) * (x Wu^T) of many tokens, the W of each chosen expert",
       .form = matmul::Form::gated,
       .quantised = false,
       .many_rows = true});
  op.doc.brief =
      "The gated half of the experts that each token has chosen: y = act(x Wg^T) * (x Wu^T), "
      "with a bias an expert in each product, for many tokens, as prompts have them. The tokens "
      "of an expert are multiplied together, in any order of the ids. Sums are float32, rounded "
      "once.";
  op.doc.parameters = {
      {"x", "[..., 1, K], a row per token, or [..., A, K], a row for each of its experts."},
      {"ids",
       "uint32 [..., A], the experts. A kernel's results of an id from E on are NaN, and it "
       "reads nothing for them; MLX's form, which runs where no kernel does, reads what lies "
       "there."},
      {"w_gate", "[E, N, K], of the type of x."},
      {"w_up", "[E, N, K], of the type of x."},
      {"bias_gate", "[E, N], added to the rounded product, or None."},
      {"bias_up", "[E, N], or None; both or none."},
      {"activation",
       "0: silu; 1: GELU in its tanh form; 2: that of gpt-oss, (clip(up, -7, 7) + 1) g "
       "sigmoid(1.702 g) with g = min(gate, 7)."}};
  op.doc.returns = "[..., A, N], of the type of x.";
  op.doc.errors = "Shapes that do not go together.";
  return op;
}

}  // namespace mlx_kd::kernels
