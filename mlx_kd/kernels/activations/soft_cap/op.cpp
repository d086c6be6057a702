#include <mlx/ops.h>

#include <cmath>
#include <limits>

#include "mlx_kd/base/error.h"
#include "mlx_kd/kernels/activations/soft_cap/space.h"
#include "mlx_kd/kernels/common/model_sizes.h"
#include "mlx_kd/kernels/common/reference64.h"
#include "mlx_kd/kernels/common/suites.h"
#include "mlx_kd/kernels/op_table.h"

namespace mlx_kd::kernels {

spec::Op make_soft_cap();

namespace soft_cap {
namespace {

using spec::Dims;
using spec::Dtype;
using spec::ModelConfig;
using spec::ModelSizes;

spec::ErrorBound bound(const Dims&) {
  return {
      16,
      "The result is rounded to the type. In float32, relative to y = cap E / (E + 2), E = "
      "exp(2 |x| / cap) - 1: 8 for the polynomial of E / f, 2 for its evaluation, 1 for 2 |x| / "
      "cap, whose relative error reaches y at most once because 2z / sinh(2z) <= 1, 1 for E + 2, "
      "3 for the quotient by an estimate and a Newton step, 1 for the product with cap."};
}

std::vector<spec::Reference64> reference(const std::vector<const void*>& inputs, Dtype dtype,
                                         const Dims& dims, const std::vector<double>& scalars) {
  // float32 flushes cap's multiples of what x / cap loses below 2^-126.
  const double cap = scalars[0], lost = cap * 0x1p-125 + underflow(dtype);
  spec::Reference64 result;
  for (const double x : load_all(inputs[0], dims.at("N"), dtype)) {
    const double y = cap * std::tanh(x / cap);
    append(result, {y, std::fabs(y), std::fabs(y), lost});
  }
  saturate(result, dtype, bound(dims).accumulated);
  return {std::move(result)};
}

spec::Op::Arrays mlx_form(const spec::Op::Arrays& in, std::span<const double> scalars,
                          const mlx::core::Stream& s) {
  namespace mx = mlx::core;
  const mx::array cap(static_cast<float>(scalars[0]), in[0].dtype());
  return {mx::multiply(mx::tanh(mx::divide(in[0], cap, s), s), cap, s)};
}

// Over the first elements: both saturated ends, infinities, NaN, zeros and subnormals.
void add_special_values(const std::vector<void*>& inputs, Dtype dtype, const Dims& dims) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  const double tiny = spec::smallest_subnormal(dtype), most = spec::largest_finite(dtype);
  const double values[] = {kInfinity, -kInfinity, std::numeric_limits<double>::quiet_NaN(),
                           0,         -0.0,       tiny,
                           -5 * tiny, most,       -most,
                           1000,      -1000,      300};
  int64_t at = 0;
  for (const double x : values)
    if (at < dims.at("N")) spec::store_element(inputs[0], at++, dtype, static_cast<float>(x));
}

std::vector<ModelSizes> model_sizes(const ModelConfig& config) {
  std::vector<ModelSizes> result;
  if (config.has("final_logit_softcapping"))
    result.push_back({"model",
                      "vocab_size: the logits, whose cap is final_logit_softcapping",
                      {{"D", config.first_of({"vocab_size"}, "the width of the logits")}}});
  const bool caps_scores = config.has("attn_logit_softcapping");
  if (caps_scores && config.has("sliding_window"))
    result.push_back(
        {result.empty() ? "model" : "scores",
         "num_attention_heads rows per token, over the keys of a full sliding_window: the "
         "scores of attention, whose cap is attn_logit_softcapping",
         {{"D", config.count("sliding_window")}},
         attention_heads(config, "the rows of the scores")});
  if (result.empty())
    base::misuse("kernels", "the config of " + config.origin() +
                                " has neither final_logit_softcapping, nor attn_logit_softcapping "
                                "with sliding_window, which soft_cap takes its sizes from: give "
                                "--shapes");
  return result;
}

spec::Doc doc() {
  spec::Doc doc;
  doc.brief =
      "Bounds logits and scores of attention smoothly. y = cap * tanh(x / cap), element by "
      "element: "
      "computed in float32 and rounded once, where MLX's operators round three times.";
  doc.parameters = {{"inp", "[..., D], at least one axis."},
                    {"cap", "Above 0. Gemma models take 30 for logits and 50 for scores."}};
  doc.returns = "Shape and type as inp.";
  doc.errors = "If inp has no axis, or cap is not above 0.";
  return doc;
}

}  // namespace
}  // namespace soft_cap

spec::Op make_soft_cap() {
  using namespace soft_cap;
  spec::Op op;
  op.name = "soft_cap";
  op.summary = "y = cap * tanh(x / cap)";
  op.doc = doc();
  op.inputs = {{"inp", rows_by_d}};
  op.outputs = {{"out", rows_by_d}};
  soft_cap::add_sizes(op);
  op.of_model = model_sizes;
  op.cost = [](const Dims& dims, Dtype dtype) {
    const auto n = static_cast<double>(dims.at("N"));
    return spec::Cost{2 * n * static_cast<double>(spec::size_of(dtype)), 20 * n};
  };
  op.mlx = mlx_form;
  op.gradient = {spec::Gradient::By::op, "soft_cap_vjp"};
  op.add_special_values = add_special_values;
  op.reference = reference;
  op.bound = bound;
  op.variants = soft_cap::variants("soft_cap");
  return op;
}

}  // namespace mlx_kd::kernels
