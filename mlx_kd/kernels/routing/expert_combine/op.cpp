// expert_combine: y = sum over k of w_k y_k, the results of the chosen experts by their weights.
#include <mlx/ops.h>

#include <cmath>

#include "mlx_kd/base/error.h"
#include "mlx_kd/base/random.h"
#include "mlx_kd/kernels/common/cpu_space.h"
#include "mlx_kd/kernels/common/metal_space.h"
#include "mlx_kd/kernels/common/model_sizes.h"
#include "mlx_kd/kernels/common/reference64.h"
#include "mlx_kd/kernels/common/shapes.h"
#include "mlx_kd/kernels/divide_up.h"
#include "mlx_kd/kernels/op_table.h"
#include "mlx_kd/kernels/routing/experts.h"

namespace mlx_kd::kernels {

spec::Op make_expert_combine();

namespace expert_combine {
namespace {

using spec::Dims;
using spec::Dtype;
using spec::Shape;
using enum spec::KnobScale;
using enum spec::KnobRole;

Dtype weights_type(Dtype t, const Dims& dims) {
  return dims.at("wide") ? Dtype::float32 : t;
}

Dims complete(const Dims& dims) {
  if (dims.at("wide") > 1)
    base::misuse("kernels", "expert_combine: wide is " + std::to_string(dims.at("wide")) +
                                ": give 0 (weights of the type of x) or 1 (float32)");
  return dims;
}

void signature(std::span<const spec::ArrayView> in, std::span<const double>,
               std::span<int64_t> dims) {
  const auto x = in[0].shape, weights = in[1].shape;
  if (x.size() < 2 || weights.size() + 1 != x.size() ||
      !std::equal(weights.begin(), weights.end(), x.begin()))
    throw std::invalid_argument("[expert_combine] x has shape " + shape_text(x) +
                                " and weights has shape " + shape_text(weights) +
                                ": they must be (..., A, D) and (..., A)");
  int64_t tokens = 1;
  for (size_t i = 0; i + 2 < x.size(); ++i) tokens *= x[i];
  dims[0] = tokens;
  dims[1] = weights.back();
  dims[2] = x.back();
}

// As models of mlx-lm write it.
spec::Op::Arrays mlx_form(const spec::Op::Arrays& in, std::span<const double>,
                          const mlx::core::Stream& s) {
  namespace mx = mlx::core;
  const mx::array products = mx::multiply(in[0], mx::expand_dims(in[1], -1, s), s);
  return {mx::astype(mx::sum(products, -2, false, s), in[0].dtype(), s)};
}

void fill(const spec::FillRequest& request) {
  base::Random random(request.seed * 29 + static_cast<uint64_t>(request.distribution));
  const Dims& dims = request.dims;
  const int64_t pairs = dims.at("M") * dims.at("A"), d = dims.at("D");
  const bool is_half = request.t == Dtype::float16;
  for (int64_t i = 0; i < pairs * d; ++i) {
    double value = random.normal();
    if (request.distribution == spec::Distribution::magnitudes)
      value = std::copysign(
          std::exp2((is_half ? -14 : -60) + (is_half ? 29 : 120) * random.uniform()), value);
    spec::store_element(request.inputs[0], i, request.t, static_cast<float>(value));
  }
  for (int64_t i = 0; i < pairs; ++i)
    spec::store_element(request.inputs[1], i, weights_type(request.t, dims),
                        static_cast<float>(random.uniform()));
  if (request.distribution != spec::Distribution::special) return;
  const float values[] = {INFINITY, -INFINITY, std::nanf(""), -0.0f};
  for (int64_t i = 0; i < 4 && i < pairs * d; ++i)
    spec::store_element(request.inputs[0], i * d % (pairs * d), request.t, values[i]);
}

std::vector<spec::Reference64> reference(const std::vector<const void*>& inputs, Dtype t,
                                         const Dims& dims, const std::vector<double>&) {
  const int64_t chosen = dims.at("A"), d = dims.at("D");
  const double product_share =
      dims.at("wide") ? spec::unit_roundoff(Dtype::float32) / spec::unit_roundoff(t) : 1;
  spec::Reference64 result;
  for (int64_t i = 0; i < dims.at("M") * d; ++i) {
    const int64_t row = i / d;
    double y = 0, terms = 0;
    for (int64_t k = 0; k < chosen; ++k) {
      const int64_t pair = row * chosen + k;
      const double term =
          static_cast<double>(spec::load_element(inputs[0], pair * d + i % d, t)) *
          static_cast<double>(spec::load_element(inputs[1], pair, weights_type(t, dims)));
      y += term;
      terms += std::fabs(term);
    }
    append(result, {y, std::fabs(y) + product_share * terms, terms,
                    static_cast<double>(chosen + 1) * underflow(t)});
  }
  saturate(result, t, static_cast<double>(chosen));
  return {result};
}

spec::Space cpu_space(Dtype t, const spec::DeviceTraits& traits) {
  spec::Space space;
  space.knobs = {vector_knob(traits),
                 {"BLOCK", {1024, 512, 2048, 4096}, log2, source, "columns of a unit"}};
  add_rounding_knob(space, t, traits);
  add_thread_knobs(space, traits, {16, 1, 2, 4, 8}, "blocks");
  return space;
}

spec::Space metal_space(Dtype, const spec::DeviceTraits&) {
  spec::Space space;
  space.knobs = {{"UNROLL", {1, 2, 4}, log2, source, "columns of a thread"}, group_knob()};
  return space;
}

spec::Variant cpu_variant() {
  spec::Variant variant;
  variant.name = "blocks";
  variant.language = "cpp";
  variant.source = kernel_source("routing/expert_combine/expert_combine.cpu.cpp");
  variant.func_name = "mlx_kd_expert_combine";
  variant.launch_kind = "cpp_arguments";
  variant.space = cpu_space;
  variant.launch = [](const Dims& dims, const spec::Setting& knobs) {
    const int64_t block = knobs.at("BLOCK");
    return share_units(dims.at("M") * divide_up(dims.at("D"), block), knobs);
  };
  return variant;
}

spec::Variant metal_variant() {
  spec::Variant variant;
  variant.name = "columns";
  variant.language = "metal";
  variant.source = kernel_source("routing/expert_combine/expert_combine.metal");
  variant.func_name = "mlx_kd_expert_combine";
  variant.launch_kind = "metal_columns";
  variant.space = metal_space;
  variant.launch = [](const Dims& dims, const spec::Setting& knobs) {
    const int64_t each = knobs.at("UNROLL");
    return launch_flat((dims.at("M") * dims.at("D") + each - 1) / each, knobs);
  };
  return variant;
}

spec::Suite suite(const std::string& name, int64_t chosen, int64_t d) {
  spec::Suite result{name, {}};
  for (const int64_t tokens : {1, 2, 4})
    result.sizes.push_back({{"M", tokens}, {"A", chosen}, {"D", d}, {"wide", 0}});
  return result;
}

spec::Doc doc() {
  spec::Doc doc;
  doc.brief =
      "The results of the experts that a token has chosen, summed by their weights. A product is "
      "rounded to the wider type of x and weights, as MLX rounds it; the sum is float32 and is "
      "rounded once.";
  doc.parameters = {{"x", "[..., A, D], the results of A experts for each token."},
                    {"weights", "[..., A], of the type of x, or float32."},
                    {"wide", "1: the weights are float32 whatever the type of x."}};
  doc.returns = "[..., D], of the type of x.";
  doc.errors = "If the axes do not go together.";
  return doc;
}

std::vector<Dims> edge_sizes() {
  return {{{"M", 1}, {"A", 1}, {"D", 1}, {"wide", 0}},
          {{"M", 3}, {"A", 2}, {"D", 75}, {"wide", 1}},
          {{"M", 2}, {"A", 8}, {"D", 64}, {"wide", 0}},
          {{"M", 5}, {"A", 3}, {"D", 2049}, {"wide", 1}}};
}

std::vector<spec::ModelSizes> model_sizes(const spec::ModelConfig& config) {
  const routing::Experts experts = routing::experts_of(config);
  spec::ModelSizes sizes = {"model",
                            "hidden_size, and how many experts a token chooses",
                            {{"A", experts.chosen},
                             {"D", hidden_width(config, "the width between layers")},
                             {"wide", experts.is_sigmoid}}};
  sizes.calls.decode = experts.layers;
  return std::vector<spec::ModelSizes>{sizes};
}

}  // namespace
}  // namespace expert_combine

spec::Op make_expert_combine() {
  using namespace expert_combine;
  spec::Op op;
  op.name = "expert_combine";
  op.summary = "y = sum of the chosen experts' results by their weights";
  op.doc = expert_combine::doc();
  op.inputs = {{"x",
                [](const Dims& dims) {
                  return Shape{dims.at("M"), dims.at("A"), dims.at("D")};
                }},
               {"weights",
                [](const Dims& dims) {
                  return Shape{dims.at("M"), dims.at("A")};
                },
                spec::PortType(weights_type)}};
  op.outputs = {{"y", [](const Dims& dims) { return Shape{dims.at("M"), dims.at("D")}; }}};
  op.dims = {{"M", spec::Dim::Kind::dim, true, true},
             {"A"},
             {"D"},
             {.name = "wide", .kind = spec::Dim::Kind::attribute}};
  op.batch_dim = "M";
  op.suites = {suite("qwen3_30b_a3b_decode", 8, 2048), suite("gpt_oss_20b_decode", 4, 2880)};
  op.edge_sizes = edge_sizes();
  op.complete = expert_combine::complete;
  op.signature = expert_combine::signature;
  op.of_model = expert_combine::model_sizes;
  op.fill = expert_combine::fill;
  op.mlx = expert_combine::mlx_form;
  op.reference = expert_combine::reference;
  op.bound = [](const Dims& dims) {
    return spec::ErrorBound{static_cast<double>(dims.at("A")) + 1,
                            "each product is rounded to the wider type of the two, float32 sums of "
                            "A terms, one rounding of the sum"};
  };
  op.variants = {cpu_variant(), metal_variant()};
  return op;
}

}  // namespace mlx_kd::kernels
