#include <mlx/ops.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "mlx_kd/base/error.h"
#include "mlx_kd/kernels/activations/elements.h"
#include "mlx_kd/kernels/op_table.h"

namespace mlx_kd::kernels {

spec::Op make_swiglu_oai();

namespace swiglu_oai {
namespace {

namespace mx = mlx::core;
using spec::Dims;
using spec::Dtype;

spec::ErrorBound bound(const Dims&) {
  return {kGateRoundings, kGateDerivation};
}

std::vector<spec::Reference64> reference(const std::vector<const void*>& inputs, Dtype dtype,
                                         const Dims& dims, const std::vector<double>& scalars) {
  return {each_element(inputs, 2, dtype, dims, bound(dims).accumulated, [&](const double* x) {
    const double alpha = static_cast<float>(scalars[0]), limit = static_cast<float>(scalars[1]);
    const double g = x[0] > limit ? limit : x[0];
    const double up = x[1] > limit ? limit : x[1] < -limit ? -limit : x[1];
    return charged_gate({g, alpha * g, up + 1, 4}, dtype);
  })};
}

// As mlx-lm's gpt-oss.
spec::Op::Arrays mlx_form(const spec::Op::Arrays& in, std::span<const double> scalars,
                          const mx::Stream& s) {
  const auto number = [&](double x) { return mx::array(static_cast<float>(x), in[0].dtype()); };
  const mx::array gate = mx::minimum(in[0], number(scalars[1]), s);
  const mx::array up = mx::clip(in[1], number(-scalars[1]), number(scalars[1]), s);
  const mx::array sigmoid = mx::sigmoid(mx::multiply(number(scalars[0]), gate, s), s);
  return {mx::multiply(mx::multiply(gate, sigmoid, s), mx::add(up, number(1), s), s)};
}

std::vector<spec::ModelSizes> model_sizes(const spec::ModelConfig& config) {
  if (!config.is_type("gpt_oss"))
    base::misuse("kernels", "the config of " + config.origin() +
                                " is not of a gpt_oss model, whose gates swiglu_oai computes: give "
                                "--shapes");
  return {{"model",
           "intermediate_size: routed experts, num_experts_per_tok rows per token",
           {{"D", config.first_of({"intermediate_size"}, "the width of the experts")}},
           config.integer_or("num_experts_per_tok", config.integer_or("experts_per_token", 1))}};
}

spec::Doc doc() {
  spec::Doc doc;
  doc.brief =
      "The gate of gpt-oss: y = (clip(up, -limit, limit) + 1) g sigmoid(alpha g) with g = "
      "min(gate, limit), in float32 with one rounding.";
  doc.parameters = {{"gate", "[..., D], at least one axis."},
                    {"up", "Shape as gate."},
                    {"alpha", "In the sigmoid."},
                    {"limit", "Above 0."}};
  doc.returns = "Shape and type as gate.";
  doc.errors = "If the shapes differ; the message shows both.";
  return doc;
}

}  // namespace
}  // namespace swiglu_oai

spec::Op make_swiglu_oai() {
  using namespace swiglu_oai;
  spec::Op op;
  make_elementwise(op, "swiglu_oai", {"gate", "up"}, 2880);
  op.summary = "y = (clip(up) + 1) g sigmoid(alpha g), g = min(gate, limit)";
  op.doc = doc();
  constexpr double kMost = std::numeric_limits<float>::max();
  op.scalars = {{"alpha", 1.702, {1.702, 1}}, {"limit", 7, {7, 0.5}, 0, kMost, true}};
  op.of_model = swiglu_oai::model_sizes;
  op.mlx = mlx_form;
  op.reference = reference;
  op.bound = bound;
  return op;
}

}  // namespace mlx_kd::kernels
