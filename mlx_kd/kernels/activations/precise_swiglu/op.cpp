#include <mlx/ops.h>

#include <algorithm>
#include <cmath>

#include "mlx_kd/base/error.h"
#include "mlx_kd/kernels/activations/elements.h"
#include "mlx_kd/kernels/op_table.h"

namespace mlx_kd::kernels {

spec::Op make_precise_swiglu();

namespace precise_swiglu {
namespace {

namespace mx = mlx::core;
using spec::Dims;
using spec::Dtype;

spec::ErrorBound bound(const Dims&) {
  return {kGateRoundings, kGateDerivation};
}

std::vector<spec::Reference64> reference(const std::vector<const void*>& inputs, Dtype dtype,
                                         const Dims& dims, const std::vector<double>&) {
  return {each_element(inputs, 2, dtype, dims, bound(dims).accumulated, [&](const double* x) {
    return charged_gate({x[0], x[0], x[1], 3}, dtype);
  })};
}

spec::Op::Arrays mlx_form(const spec::Op::Arrays& in, std::span<const double>,
                          const mx::Stream& s) {
  const mx::array gate = mx::astype(in[0], mx::float32, s), up = mx::astype(in[1], mx::float32, s);
  const mx::array y = mx::multiply(mx::multiply(gate, mx::sigmoid(gate, s), s), up, s);
  return {mx::astype(y, in[0].dtype(), s)};
}

std::vector<spec::ModelSizes> model_sizes(const spec::ModelConfig& config) {
  if (!config.has("linear_value_head_dim"))
    base::misuse("kernels", "the config of " + config.origin() +
                                " has no linear_value_head_dim, the width of the gated norms that "
                                "precise_swiglu is a part of: give --shapes");
  return {{"model",
           "linear_num_value_heads rows of linear_value_head_dim: the gated norms",
           {{"D", config.count("linear_value_head_dim")}},
           config.integer_or("linear_num_value_heads", 1)}};
}

spec::Doc doc() {
  spec::Doc doc;
  doc.brief = "swiglu in float32 whatever the type: y = gate * sigmoid(gate) * up, rounded once.";
  doc.parameters = {{"gate", "[..., D], at least one axis."}, {"up", "Shape as gate."}};
  doc.returns = "Shape and type as gate.";
  doc.errors = "If the shapes differ; the message shows both.";
  return doc;
}

}  // namespace
}  // namespace precise_swiglu

spec::Op make_precise_swiglu() {
  using namespace precise_swiglu;
  spec::Op op;
  make_elementwise(op, "precise_swiglu", {"gate", "up"}, 4096);
  op.summary = "y = gate * sigmoid(gate) * up in float32";
  op.doc = doc();
  op.of_model = precise_swiglu::model_sizes;
  op.mlx = mlx_form;
  op.reference = reference;
  op.bound = bound;
  return op;
}

}  // namespace mlx_kd::kernels
