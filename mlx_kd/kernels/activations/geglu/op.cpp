#include <mlx/ops.h>

#include <algorithm>
#include <cmath>

#include "mlx_kd/base/error.h"
#include "mlx_kd/kernels/activations/elements.h"
#include "mlx_kd/kernels/common/mlx_forms.h"
#include "mlx_kd/kernels/op_table.h"

namespace mlx_kd::kernels {

spec::Op make_geglu();

namespace geglu {
namespace {

namespace mx = mlx::core;
using spec::Dims;
using spec::Dtype;

spec::ErrorBound bound(const Dims&) {
  return {kGateRoundings, std::string(kGateDerivation) +
                              " S also holds the two terms of 1 + tanh(u), as MLX adds them."};
}

std::vector<spec::Reference64> reference(const std::vector<const void*>& inputs, Dtype dtype,
                                         const Dims& dims, const std::vector<double>&) {
  return {each_element(inputs, 2, dtype, dims, bound(dims).accumulated, [&](const double* x) {
    // sqrt(2 / pi) twice, because (1 + tanh(u)) / 2 = sigmoid(2 u).
    const double z = 1.5957691216057308 * (x[0] + 0.044715 * x[0] * x[0] * x[0]);
    Charged result = charged_gate({x[0], z, x[1], 6}, dtype);
    result.terms += std::fabs(x[0] * x[1]) * (1 + std::fabs(std::tanh(z / 2))) / 2;
    return result;
  })};
}

// As mlx.nn.gelu_approx(gate) * up.
spec::Op::Arrays mlx_form(const spec::Op::Arrays& in, std::span<const double>,
                          const mx::Stream& s) {
  return {mx::multiply(gelu_in_mlx(in[0], s), in[1], s)};
}

std::vector<spec::ModelSizes> model_sizes(const spec::ModelConfig& config) {
  return mlp_sizes(config, "geglu", {"gelu_pytorch_tanh", "gelu_new", "gelu_approx", "gelu_tanh"});
}

spec::Doc doc() {
  spec::Doc doc;
  doc.brief =
      "The gate of a Gemma-like feed-forward layer. y = gate * (1 + tanh(u)) / 2 * up with u = "
      "sqrt(2 / pi) (gate + 0.044715 gate^3), in float32 with one rounding.";
  doc.parameters = {{"gate", "[..., D], at least one axis."}, {"up", "Shape as gate."}};
  doc.returns = "Shape and type as gate.";
  doc.errors = "If the shapes differ; the message shows both.";
  return doc;
}

}  // namespace
}  // namespace geglu

spec::Op make_geglu() {
  using namespace geglu;
  spec::Op op;
  make_elementwise(op, "geglu", {"gate", "up"}, 14336);
  op.summary = "y = gelu(gate) * up, by the hyperbolic tangent";
  op.doc = doc();
  op.of_model = geglu::model_sizes;
  op.mlx = mlx_form;
  op.reference = reference;
  op.bound = bound;
  return op;
}

}  // namespace mlx_kd::kernels
