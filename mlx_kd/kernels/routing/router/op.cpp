// router: the experts that each token chooses, and their weights.
#include <mlx/ops.h>

#include <cmath>
#include <limits>

#include "mlx_kd/base/error.h"
#include "mlx_kd/base/random.h"
#include "mlx_kd/kernels/common/cpu_space.h"
#include "mlx_kd/kernels/common/metal_space.h"
#include "mlx_kd/kernels/common/shapes.h"
#include "mlx_kd/kernels/op_table.h"
#include "mlx_kd/kernels/routing/experts.h"
#include "mlx_kd/kernels/routing/router/judge.h"

namespace mlx_kd::kernels {

spec::Op make_router();

namespace router {
namespace {

using spec::Dims;
using spec::Dtype;
using spec::Shape;
using enum spec::KnobScale;
using enum spec::KnobRole;

constexpr int64_t kSigmoid = 1, kOfChosen = 2;  // scoring

[[noreturn]] void misuse_of(const std::string& name, const Dims& dims, const std::string& what) {
  base::misuse("kernels",
               "router: " + name + " is " + std::to_string(dims.at(name)) + ": give " + what);
}

Dims complete(const Dims& given) {
  Dims dims = given;
  for (const char* name : {"groups", "top_groups", "group_best"})
    if (dims.at(name) == 0) dims.set(name, 1);
  const int64_t experts = dims.at("E"), top = dims.at("top"), groups = dims.at("groups");
  if (top < 1 || top > experts) misuse_of("top", dims, "1 to E = " + std::to_string(experts));
  if (dims.at("scoring") > kOfChosen)
    misuse_of("scoring", dims, "0 (softmax), 1 (sigmoid) or 2 (softmax of the chosen)");
  for (const char* name : {"normalise", "has_correction"})
    if (dims.at(name) > 1) misuse_of(name, dims, "0 or 1");
  if (groups > experts || experts % groups != 0)
    misuse_of("groups", dims, "a divisor of E = " + std::to_string(experts));
  if (dims.at("top_groups") > groups || dims.at("top_groups") * (experts / groups) < top)
    misuse_of("top_groups", dims,
              "at most groups = " + std::to_string(groups) + ", with at least top experts");
  if (dims.at("group_best") > std::min<int64_t>(2, experts / groups))
    misuse_of("group_best", dims, "1, or 2 where groups have two experts");
  if (dims.at("scoring") == kOfChosen && (groups > 1 || dims.at("has_correction") == 1))
    misuse_of("scoring", dims, "0 or 1 where there are groups or a correction");
  if (groups == 1) dims.set("top_groups", 1), dims.set("group_best", 1);
  if (dims.at("scoring") == kOfChosen) dims.set("normalise", 1);
  return dims;
}

void signature(std::span<const spec::ArrayView> in, std::span<const double>,
               std::span<int64_t> dims) {
  const auto logits = in[0].shape, correction = in[1].shape;
  if (logits.empty()) throw std::invalid_argument("[router] logits has shape (): give (..., E)");
  int64_t tokens = 1;
  for (size_t i = 0; i + 1 < logits.size(); ++i) tokens *= logits[i];
  const bool is_there = correction.size() != 1 || correction[0] != 0;
  if (is_there && (correction.size() != 1 || correction[0] != logits.back()))
    throw std::invalid_argument("[router] correction has " + std::to_string(correction.size()) +
                                " axes: it must be (E), with E = " + std::to_string(logits.back()) +
                                ", or left out");
  dims[0] = tokens;
  dims[1] = logits.back();
  dims[8] = is_there;
}

// As models of mlx-lm write it, but that ids are in order: MLX's argpartition leaves that open.
spec::Op::Arrays mlx_form(const spec::Op::Arrays& in, std::span<const double> numbers,
                          const mlx::core::Stream& s) {
  namespace mx = mlx::core;
  const auto number = [&](size_t i) { return static_cast<int>(numbers[i]); };
  const int top = number(1), scoring = number(2), groups = number(4), best = number(6);
  const bool normalises = number(3) != 0 || scoring == kOfChosen, has_correction = number(7) != 0;
  const int experts = in[0].shape(-1);
  const mx::array scores = scoring == kSigmoid ? mx::sigmoid(mx::astype(in[0], mx::float32, s), s)
                                               : mx::softmax(in[0], -1, true, s);
  mx::array choice = has_correction ? mx::add(mx::astype(scores, mx::float32, s), in[1], s) : in[0];
  if (groups > 1) {
    const auto parted = [&](const mx::array& x) {
      return mx::unflatten(x, -1, {groups, experts / groups}, s);
    };
    const mx::array part = parted(has_correction ? choice : scores);
    const mx::array of_groups =
        mx::sum(mx::topk(part, best, -1, s), -1, true, s);  // (..., groups, 1)
    const int dropped = groups - number(5);
    if (dropped > 0) {
      const mx::array order = mx::argpartition(of_groups, dropped - 1, -2, s);
      mx::Shape from(static_cast<size_t>(order.ndim()), 0), to = order.shape();
      to[to.size() - 2] = dropped;
      const float masked = has_correction ? 0.0f : -std::numeric_limits<float>::infinity();
      choice = mx::flatten(mx::put_along_axis(parted(choice), mx::slice(order, from, to, s),
                                              mx::array(masked, choice.dtype()), -2, s),
                           -2, -1, s);
    }
  }
  const mx::array order = mx::argsort(mx::negative(choice, s), -1, s);
  mx::Shape from(static_cast<size_t>(order.ndim()), 0), to = order.shape();
  to.back() = top;
  const mx::array ids = mx::slice(order, from, to, s);
  if (scoring == kOfChosen) {
    const mx::array chosen = mx::softmax(mx::take_along_axis(in[0], ids, -1, s), -1, true, s);
    return {ids,
            mx::multiply(chosen, mx::array(static_cast<float>(numbers[0]), chosen.dtype()), s)};
  }
  mx::array weights = mx::take_along_axis(scores, ids, -1, s);
  if (normalises) weights = mx::divide(weights, mx::sum(weights, -1, true, s), s);
  return {ids,
          mx::multiply(weights, mx::array(static_cast<float>(numbers[0]), weights.dtype()), s)};
}

void fill(const spec::FillRequest& request) {
  base::Random random(request.seed * 37 + static_cast<uint64_t>(request.distribution));
  const Dims& dims = request.dims;
  const int64_t experts = dims.at("E"), tokens = dims.at("M");
  const double spread = request.distribution == spec::Distribution::magnitudes ? 12 : 2;
  for (int64_t i = 0; i < tokens * experts; ++i)
    spec::store_element(request.inputs[0], i, request.t,
                        static_cast<float>(spread * random.normal()));
  for (int64_t i = 0; i < experts && dims.at("has_correction"); ++i)
    spec::store_element(request.inputs[1], i, Dtype::float32, static_cast<float>(random.normal()));
  if (request.distribution != spec::Distribution::special) return;
  // Equal logits; one of -inf; all but one of -inf.
  for (int64_t token = 0; token < tokens; ++token)
    for (int64_t i = 0; i < experts; ++i) {
      const int64_t kind = token % 4;
      if (kind == 0)
        spec::store_element(request.inputs[0], token * experts + i, request.t,
                            static_cast<float>(i % 3));
      if ((kind == 1 && i == experts / 2) || (kind == 2 && i != experts / 2))
        spec::store_element(request.inputs[0], token * experts + i, request.t,
                            -std::numeric_limits<float>::infinity());
    }
}

spec::Space cpu_space(Dtype, const spec::DeviceTraits& traits) {
  spec::Space space;
  space.knobs = {vector_knob(traits),
                 {"DEGREE", {5, 4}, linear, source, "degree of the polynomial for 2^f - 1, over f"},
                 {"ESTRIN", {0, 1}, choice, source, "order of the polynomial", {"chain", "tree"}}};
  add_thread_knobs(space, traits, {16, 1, 4, 64, 256}, "tokens");
  return space;
}

spec::Variant variant_of(const std::string& language, const std::string& file,
                         const std::string& launch_kind) {
  spec::Variant variant;
  variant.name = "tokens";
  variant.language = language;
  variant.source = kernel_source("routing/router/" + file);
  variant.func_name = "mlx_kd_router";
  variant.launch_kind = launch_kind;
  variant.scratch = [](Dtype, const Dims& dims, const spec::Setting&) {
    return std::vector<int64_t>{dims.at("M") * 3 * ((dims.at("E") + 15) / 16 * 16) * 4};
  };
  return variant;
}

std::vector<spec::Variant> variants() {
  spec::Variant cpu = variant_of("cpp", "router.cpu.cpp", "cpp_arguments");
  cpu.space = cpu_space;
  cpu.launch = [](const Dims& dims, const spec::Setting& knobs) {
    return share_units(dims.at("M"), knobs);
  };
  spec::Variant metal = variant_of("metal", "router.metal", "metal_tokens");
  metal.space = [](Dtype, const spec::DeviceTraits&) {
    spec::Space space;
    space.knobs = {{"TOKENS", {1, 2, 4, 8}, log2, source, "tokens of a threadgroup"},
                   fast_knob("exponential")};
    return space;
  };
  metal.launch = [](const Dims& dims, const spec::Setting& knobs) {
    spec::Launch launch;
    launch.group[0] = 32;
    launch.grid[0] = 32 * ((dims.at("M") + knobs.at("TOKENS") - 1) / knobs.at("TOKENS"));
    return launch;
  };
  return {cpu, metal};
}

struct Rule {
  int64_t scoring = 0, normalise = 1, groups = 1, top_groups = 1, group_best = 1, correction = 0;
};

Dims size_of(int64_t experts, int64_t top, const Rule& rule) {
  return {{"E", experts},
          {"top", top},
          {"scoring", rule.scoring},
          {"normalise", rule.normalise},
          {"groups", rule.groups},
          {"top_groups", rule.top_groups},
          {"group_best", rule.group_best},
          {"has_correction", rule.correction}};
}

Dims with_tokens(int64_t tokens, const Dims& size) {
  Dims dims = {{"M", tokens}};
  for (const auto& [name, value] : size.items()) dims.set(name, value);
  return dims;
}

spec::Suite suite(const std::string& name, const Dims& size) {
  spec::Suite result{name, {}};
  for (const int64_t tokens : {1, 4}) result.sizes.push_back(with_tokens(tokens, size));
  return result;
}

std::vector<Dims> edge_sizes() {
  return {
      with_tokens(1, size_of(1, 1, {})),
      with_tokens(8, size_of(7, 3, {.normalise = 0})),
      with_tokens(4, size_of(64, 6, {.normalise = 0, .groups = 8, .top_groups = 3})),
      with_tokens(9, size_of(33, 33, {.scoring = 1, .correction = 1})),
      with_tokens(
          5,
          size_of(36, 4,
                  {.scoring = 1, .groups = 6, .top_groups = 2, .group_best = 2, .correction = 1})),
      with_tokens(12, size_of(130, 40, {.scoring = 2}))};
}

std::vector<spec::ModelSizes> model_sizes(const spec::ModelConfig& config) {
  const routing::Experts experts = routing::experts_of(config);
  Rule rule;
  rule.scoring = experts.is_of_chosen ? kOfChosen : experts.is_sigmoid ? kSigmoid : 0;
  rule.normalise = experts.normalises || experts.is_of_chosen;
  rule.groups = experts.groups;
  rule.top_groups = experts.top_groups;
  rule.group_best = experts.groups > 1 && experts.is_sigmoid ? 2 : 1;
  rule.correction = experts.is_sigmoid;
  spec::ModelSizes sizes = {"model", "how many experts there are, and how many a token chooses",
                            size_of(experts.count, experts.chosen, rule)};
  sizes.calls.decode = experts.layers;
  return {sizes};
}

spec::Doc doc() {
  spec::Doc doc;
  doc.brief =
      "The experts that each token chooses, the best first, and their weights, in float32 with one "
      "rounding. The logits decide, or, with a correction, the scores with it added; among equals "
      "the lowest index wins. Of groups of experts, those with the largest scores are chosen "
      "first; "
      "experts of the other groups then count as 0, or, where logits decide, come last.";
  doc.parameters = {
      {"logits", "[..., E]."},
      {"correction", "float32 [E], added to the scores to choose, not in the weights; or None."},
      {"scale", "The weights are multiplied with it."},
      {"top", "Experts a token, 1 to E."},
      {"scoring",
       "Scores are 0: a softmax of the logits; 1: sigmoids; 2: a softmax of the chosen."},
      {"normalise", "1: the weights are divided by their sum."},
      {"groups", "Groups of neighbours, a divisor of E."},
      {"top_groups", "Groups that are chosen."},
      {"group_best", "1: a group counts its largest score; 2: the sum of its two largest."}};
  doc.returns =
      "The ids [..., top] of type uint32, and the weights of the type of the logits, or float32 of "
      "sigmoids. A row with NaN, or of which there is no softmax, has weights of NaN.";
  doc.errors = "If the sizes do not go together.";
  return doc;
}

std::vector<spec::Dim> all_dims() {
  using enum spec::Dim::Kind;
  return {{"M", dim, true, true},
          {"E"},
          {"top", attribute, false, false, 1},
          {.name = "scoring", .kind = attribute},
          {.name = "normalise", .kind = attribute},
          {"groups", attribute, false, false, 1},
          {"top_groups", attribute, false, false, 1},
          {"group_best", attribute, false, false, 1},
          {.name = "has_correction", .kind = attribute}};
}

}  // namespace
}  // namespace router

spec::Op make_router() {
  using namespace router;
  spec::Op op;
  op.name = "router";
  op.summary = "the experts that each token chooses, and their weights";
  op.doc = router::doc();
  const auto by_token = shape_of({"M", "top"});
  op.inputs = {
      {"logits", shape_of({"M", "E"})},
      {.name = "correction",
       .shape =
           [](const Dims& dims) { return Shape{dims.at("has_correction") ? dims.at("E") : 0}; },
       .type = Dtype::float32,
       .optional = true}};
  op.outputs = {{"ids", by_token, Dtype::uint32, spec::Judge::residuals},
                {"weights", by_token, spec::PortType([](Dtype t, const Dims& dims) {
                   return dims.at("scoring") == kSigmoid ? Dtype::float32 : t;
                 }),
                 spec::Judge::residuals}};
  op.dims = all_dims();
  op.batch_dim = "M";
  op.scalars = {{"scale", 1, {1, 2.5}}};
  op.suites = {
      suite("qwen3_30b_a3b_decode", size_of(128, 8, {})),
      suite("gpt_oss_20b_decode", size_of(32, 4, {.scoring = 2})),
      suite(
          "deepseek_v3_decode",
          size_of(256, 8,
                  {.scoring = 1, .groups = 8, .top_groups = 4, .group_best = 2, .correction = 1}))};
  op.edge_sizes = router::edge_sizes();
  op.complete = router::complete;
  op.signature = router::signature;
  op.of_model = router::model_sizes;
  op.mlx = router::mlx_form;
  op.gradient = {spec::Gradient::By::none};
  op.fill = router::fill;
  op.residuals = router::residuals;
  op.variants = router::variants();
  return op;
}

}  // namespace mlx_kd::kernels
