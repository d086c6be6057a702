#include "mlx_kd/kernels/matmul/experts.h"

#include <mlx/ops.h>

#include <algorithm>
#include <cmath>

#include "mlx_kd/base/error.h"
#include "mlx_kd/kernels/common/model_sizes.h"
#include "mlx_kd/kernels/matmul/cuda_variant.h"
#include "mlx_kd/kernels/matmul/model_sizes.h"
#include "mlx_kd/kernels/matmul/parts.h"
#include "mlx_kd/kernels/matmul/reference.h"

namespace mlx_kd::kernels::matmul {
namespace {

using spec::ArrayView;
using spec::Dims;
using spec::Dtype;
using spec::ModelConfig;

constexpr size_t kIds = 1, kFirst = 2, kEach = 3;  // inputs: x, ids, then those of each matrix

size_t matrices_of(const Kind& kind) {
  return kind.form == Form::gated ? 2 : 1;
}

// Rows of x: a token's, or a pair's of token and expert.
int64_t x_rows_of(const Dims& dims) {
  return dims.at("M") * (dims.at("per_pair") ? dims.at("A") : 1);
}

std::vector<spec::Dim> expert_dims(const Kind& kind) {
  using enum spec::Dim::Kind;
  std::vector<spec::Dim> dims = {{"M", dim, true, true}, {"A"}, {"E"}, {"N"}, {"K"}};
  std::vector<std::string> attributes = {"bits", "group", "mode", "per_pair", "has_bias"};
  if (kind.form == Form::gated) attributes.insert(attributes.begin(), "activation");
  for (const std::string& name : attributes) dims.push_back({.name = name, .kind = attribute});
  return dims;
}

std::vector<spec::Port> expert_inputs(const Kind& kind) {
  std::vector<spec::Port> ports = {
      {"x",
       [](const Dims& dims) {
         return spec::Shape{dims.at("M"), dims.at("per_pair") ? dims.at("A") : 1, dims.at("K")};
       }},
      {"ids",
       [](const Dims& dims) {
         return spec::Shape{dims.at("M"), dims.at("A")};
       },
       Dtype::uint32}};
  std::vector<std::string> suffixes = {""};
  if (kind.form == Form::gated) suffixes = {"_gate", "_up"};
  for (const std::string& suffix : suffixes)
    add_quantised({"w" + suffix, "scales" + suffix, "biases" + suffix}, {"E", "N"}, ports);
  for (const std::string& suffix : suffixes)
    ports.push_back({.name = "bias" + suffix,
                     .shape =
                         [](const Dims& dims) {
                           return dims.at("has_bias") ? spec::Shape{dims.at("E"), dims.at("N")}
                                                      : spec::Shape{0};
                         },
                     .optional = true});
  return ports;
}

// Reads a call's size; it runs at every call and allocates nothing.
class ExpertReader {
 public:
  ExpertReader(const spec::Op& op, const Kind& kind)
      : op_(op), matrices_(matrices_of(kind)), gated_(kind.form == Form::gated) {}

  void read(std::span<const ArrayView> in, std::span<int64_t> dims) const {
    const auto x = in[0].shape, ids = in[kIds].shape, w = in[kFirst].shape;
    if (x.size() < 2) refuse(op_, 0, in[0], "it must be (..., 1, K) or (..., A, K)");
    if (ids.empty() || ids.size() + 1 != x.size() ||
        !std::equal(ids.begin(), ids.end() - 1, x.begin()))
      refuse(op_, kIds, in[kIds], "it must be (..., A), as x is " + shape_text(x));
    const int64_t rows = x[x.size() - 2], chosen = ids.back();
    if (rows != 1 && rows != chosen)
      refuse(op_, 0, in[0],
             "its axis before the last must be 1 or that of ids, " + std::to_string(chosen));
    int64_t tokens = 1;
    for (size_t i = 0; i + 1 < ids.size(); ++i) tokens *= ids[i];
    if (w.size() != 3) refuse(op_, kFirst, in[kFirst], "it must be (E, N, K bits / 32)");
    if (w[0] < 1) refuse(op_, kFirst, in[kFirst], "it must have at least one expert");
    const Format format = read_format(op_, kFirst, in, x.back());
    for (size_t i = 1; i < matrices_; ++i) check_same(in, i, format, x.back());
    const bool has_bias = read_biases(in);
    const int64_t values[] = {tokens, chosen, w[0], w[1], x.back()};
    std::copy(std::begin(values), std::end(values), dims.begin());
    const int64_t attributes[] = {format.bits, format.group, format.mode, rows != 1, has_bias};
    std::copy(std::begin(attributes), std::end(attributes),
              dims.begin() + std::ssize(values) + (gated_ ? 1 : 0));
  }

 private:
  void check_same(std::span<const ArrayView> in, size_t matrix, const Format& format,
                  int64_t k) const {
    const size_t at = kFirst + kEach * matrix;
    if (!std::equal(in[at].shape.begin(), in[at].shape.end(), in[kFirst].shape.begin(),
                    in[kFirst].shape.end()))
      refuse(op_, at, in[at], "it must be " + shape_text(in[kFirst].shape) + ", as w_gate is");
    const Format own = read_format(op_, at, in, k);
    if (own.bits != format.bits || own.group != format.group || own.mode != format.mode)
      refuse(op_, at + 1, in[at + 1], "all matrices of a call must have one format");
  }

  bool read_biases(std::span<const ArrayView> in) const {
    const size_t first = kFirst + kEach * matrices_;
    const auto wanted = in[kFirst].shape.first(2);
    const bool has_bias = !is_left_out(in[first]);
    for (size_t i = first; i < first + matrices_; ++i) {
      if (is_left_out(in[i]) && !has_bias) continue;
      if (!std::equal(wanted.begin(), wanted.end(), in[i].shape.begin(), in[i].shape.end()))
        refuse(op_, i, in[i], "it must be " + shape_text(wanted) + ", or all biases left out");
    }
    return has_bias;
  }

  const spec::Op& op_;
  size_t matrices_;
  bool gated_;
};

Dims complete_experts(const Kind& kind, const Dims& given) {
  Dims dims = given;
  for (const char* name : {"per_pair", "has_bias"})
    if (dims.at(name) > 1)
      base::misuse("kernels", kind.name + ": " + name + " is " + std::to_string(dims.at(name)) +
                                  ": give 0 or 1");
  if (dims.value_or("activation", 0) > 2)
    base::misuse("kernels",
                 kind.name + ": activation is " + std::to_string(dims.at("activation")) +
                     ": give 0 (silu), 1 (the tanh form of GELU) or 2 (that of gpt-oss)");
  if (const std::string why = why_not(format_of(dims), dims.at("K")); !why.empty())
    base::misuse("kernels", kind.name + ": " + why);
  if (dims.at("A") == 1) dims.set("per_pair", 0);  // the same
  return dims;
}

// --- MLX's form -------------------------------------------------------------------------------

mlx::core::array gated_oai_in_mlx(const mlx::core::array& gate, const mlx::core::array& up,
                                  const mlx::core::Stream& s) {
  namespace mx = mlx::core;
  const auto number = [&](double x) { return mx::array(static_cast<float>(x), gate.dtype()); };
  const mx::array g = mx::minimum(gate, number(7), s);
  const mx::array linear = mx::add(mx::clip(up, number(-7), number(7), s), number(1), s);
  return mx::multiply(linear, mx::multiply(g, mx::sigmoid(mx::multiply(number(1.702), g, s), s), s),
                      s);
}

// `numbers`: the attributes in order.
spec::Op::Arrays experts_in_mlx(const Kind& kind, const spec::Op::Arrays& in,
                                std::span<const double> numbers, const mlx::core::Stream& s) {
  namespace mx = mlx::core;
  size_t next = 0;
  const auto number = [&] { return static_cast<int64_t>(numbers[next++]); };
  const int64_t activation = kind.form == Form::gated ? number() : 0;
  Format format;
  format.bits = number();
  format.group = number();
  format.mode = number();
  const bool has_bias = numbers.back() != 0;
  const size_t matrices = matrices_of(kind);
  const mx::array x = mx::expand_dims(in[0], -2, s);
  spec::Op::Arrays sums;
  for (size_t i = 0; i < matrices; ++i) {
    const size_t at = kFirst + kEach * i;
    std::optional<mx::array> biases;
    if (format.mode == kAffine) biases = in[at + 2];
    mx::array y =
        mx::squeeze(mx::gather_qmm(x, in[at], in[at + 1], biases, std::nullopt, in[kIds], true,
                                   static_cast<int>(format.group), static_cast<int>(format.bits),
                                   mlx_mode(format), std::nullopt, false, s),
                    -2, s);
    if (has_bias) y = mx::add(y, mx::take(in[kFirst + kEach * matrices + i], in[kIds], 0, s), s);
    sums.push_back(y);
  }
  if (kind.form != Form::gated) return sums;
  if (activation == 2) return {gated_oai_in_mlx(sums[0], sums[1], s)};
  return {mx::multiply(activated_in_mlx(sums[0], activation == 1, s), sums[1], s)};
}

// --- inputs of proofs -------------------------------------------------------------------------

// As a router chooses them: different ones for a token, where there are as many.
void fill_ids(uint32_t* ids, const Dims& dims, base::Random& random) {
  const int64_t experts = dims.at("E"), chosen = dims.at("A");
  std::vector<uint32_t> all(static_cast<size_t>(experts));
  for (int64_t token = 0; token < dims.at("M"); ++token) {
    for (size_t i = 0; i < all.size(); ++i) all[i] = static_cast<uint32_t>(i);
    for (int64_t i = 0; i < chosen; ++i) {
      const auto at = static_cast<size_t>(i % experts);
      std::swap(all[at], all[at + random.below(all.size() - at)]);
      ids[token * chosen + i] = all[at];
    }
  }
}

void fill_experts(const Kind& kind, const spec::FillRequest& request) {
  base::Random random(request.seed * 31 + static_cast<uint64_t>(request.distribution));
  const Dims& dims = request.dims;
  const int64_t k = dims.at("K"), rows = dims.at("E") * dims.at("N");
  const int64_t x_rows = x_rows_of(dims);
  const size_t matrices = matrices_of(kind), bias = kFirst + kEach * matrices;
  fill_values(request.inputs[0], x_rows * k, request, random);
  fill_ids(static_cast<uint32_t*>(request.inputs[kIds]), dims, random);
  for (size_t i = 0; i < matrices; ++i) {
    const auto first = request.inputs.begin() + static_cast<std::ptrdiff_t>(kFirst + kEach * i);
    fill_weights(format_of(dims), request.t, rows, k, {first, first + kEach}, random);
  }
  for (size_t i = bias; i < bias + matrices && dims.at("has_bias"); ++i)
    for (int64_t j = 0; j < rows; ++j)
      spec::store_element(request.inputs[i], j, request.t,
                          static_cast<float>(-0.5 + random.uniform()));
  if (request.distribution != spec::Distribution::special) return;
  // Row 0 has a NaN; row 1 zeros of both signs.
  if (x_rows > 1) spec::store_element(request.inputs[0], k / 3, request.t, std::nanf(""));
  for (int64_t j = 0; j < k && x_rows > 2; ++j)
    spec::store_element(request.inputs[0], k + j, request.t, j % 2 ? -0.0f : 0.0f);
}

// --- the CPU variant --------------------------------------------------------------------------

std::vector<spec::Stage> expert_stages(const Kind& kind, const Dims& dims,
                                       const spec::Setting& knobs) {
  const int64_t pairs = dims.at("M") * dims.at("A");
  return {{"mlx_kd_" + kind.name, prepare_rows(x_rows_of(dims), knobs)},
          {"mlx_kd_" + kind.name + "_rows", share_rows(pairs * dims.at("N"), knobs)}};
}

// x in the order of the codes and sums of its groups, each row by itself (experts.cpu.h).
std::vector<int64_t> expert_scratch(const Dims& dims) {
  const int64_t rows = x_rows_of(dims), k = dims.at("K");
  return {rows * divide_up(k, 256) * 256 * 6 + 64,
          rows * divide_up(k / dims.at("group"), 16) * 16 * 4 + 64};
}

spec::Variant experts_on_cpu(const Kind& kind) {
  spec::Variant variant = cpu_variant(kind, "streams");
  variant.stages = [kind](const Dims& dims, const spec::Setting& knobs) {
    return expert_stages(kind, dims, knobs);
  };
  variant.scratch = [](Dtype, const Dims& dims, const spec::Setting&) {
    return expert_scratch(dims);
  };
  return variant;
}

// --- sizes ------------------------------------------------------------------------------------

struct ExpertSize {
  int64_t chosen, experts, n, k;
  Format format;
  bool per_pair = false, bias = false;
  int64_t activation = 0;
};

Dims dims_of_experts(const Kind& kind, const ExpertSize& size) {
  Dims dims = {{"A", size.chosen}, {"E", size.experts}, {"N", size.n}, {"K", size.k}};
  if (kind.form == Form::gated) dims.set("activation", size.activation);
  dims.set("bits", size.format.bits);
  dims.set("group", size.format.group);
  dims.set("mode", size.format.mode);
  dims.set("per_pair", size.per_pair);
  dims.set("has_bias", size.bias);
  return dims;
}

Dims with_tokens(int64_t tokens, const Dims& size) {
  Dims dims = {{"M", tokens}};
  for (const auto& [name, value] : size.items()) dims.set(name, value);
  return dims;
}

// Of experts that map `hidden` to `width` and back.
ExpertSize size_of_layer(const Kind& kind, int64_t chosen, int64_t experts, int64_t hidden,
                         int64_t width, const Format& format) {
  if (kind.form == Form::gated) return {chosen, experts, width, hidden, format};
  return {chosen, experts, hidden, width, format, true};
}

std::vector<spec::Suite> expert_suites(const Kind& kind) {
  constexpr Format kFour = {4, 64, kAffine}, kMxfp = {4, 32, kMxfp4};
  const Dims some = dims_of_experts(kind, size_of_layer(kind, 8, 64, 2048, 1024, kFour));
  const Dims qwen = dims_of_experts(kind, size_of_layer(kind, 8, 128, 2048, 768, kFour));
  ExpertSize oss = size_of_layer(kind, 4, 32, 2880, 2880, kMxfp);
  oss.bias = true;
  oss.activation = 2;
  std::vector<spec::Suite> suites = {
      {"experts_64_decode", {}}, {"qwen3_30b_a3b_decode", {}}, {"gpt_oss_20b_decode", {}}};
  for (const int64_t tokens : {1, 2, 4}) {
    suites[0].sizes.push_back(with_tokens(tokens, some));
    suites[1].sizes.push_back(with_tokens(tokens, qwen));
  }
  suites[2].sizes.push_back(with_tokens(1, dims_of_experts(kind, oss)));
  return suites;
}

// Remainders of every vector and batch, all formats, more ids than experts.
std::vector<Dims> expert_edges(const Kind& kind) {
  const std::pair<int64_t, ExpertSize> edges[] = {
      {1, {1, 1, 1, 32, {4, 32, kAffine}}},
      {3, {2, 5, 17, 160, {4, 32, kAffine}, true, true, 1}},
      {2, {3, 4, 33, 192, {2, 64, kAffine}, false, true, 2}},
      {5, {2, 3, 9, 96, {3, 32, kAffine}}},
      {1, {4, 3, 40, 256, {5, 128, kAffine}, true, false, 2}},
      {4, {2, 8, 19, 64, {6, 64, kAffine}, false, true}},
      {2, {5, 6, 23, 384, {8, 128, kAffine}, true, true, 2}},
      {2, {2, 3, 11, 64, {4, 32, kMxfp4}, false, true, 2}},
      {3, {2, 2, 8, 96, {8, 32, kMxfp8}, true, false, 1}},
      {1, {3, 4, 70, 96, {4, 16, kNvfp4}, false, true}}};
  std::vector<Dims> sizes;
  for (const auto& [tokens, size] : edges)
    sizes.push_back(with_tokens(tokens, dims_of_experts(kind, size)));
  return sizes;
}

std::vector<spec::ModelSizes> experts_of_model(const Kind& kind, const ModelConfig& config) {
  const int64_t experts =
      config.first_of({"num_experts", "num_local_experts", "n_routed_experts"}, "the experts");
  const int64_t chosen = config.first_of({"num_experts_per_tok", "experts_per_token", "moe_topk"},
                                         "the experts that a token chooses");
  const int64_t width =
      config.first_of({"moe_intermediate_size", "intermediate_size"}, "the width of the experts");
  const bool is_oss = config.is_type("gpt_oss");
  ExpertSize size =
      size_of_layer(kind, chosen, experts, hidden_width(config, "the width between layers"), width,
                    stated_format(config));
  size.bias = is_oss;
  size.activation = is_oss ? 2 : uses_gelu(config) ? 1 : 0;
  const std::string what = kind.form == Form::gated ? "gate and up" : "the product back";
  spec::ModelSizes sizes = {
      "model", "hidden_size, the width of the experts, and how many a token chooses: " + what,
      dims_of_experts(kind, size)};
  if (config.part("quantization")) sizes.calls.decode = layer_count(config) - dense_layers(config);
  return {sizes};
}

// Each chosen expert's weights are read once.
spec::Cost cost_of_experts(const Kind& kind, const Dims& dims, Dtype t) {
  const auto number = [&](const char* name) { return static_cast<double>(dims.at(name)); };
  const auto size = static_cast<double>(spec::size_of(t));
  const Format format = format_of(dims);
  const double pairs = number("M") * number("A"), read = std::min(pairs, number("E"));
  const double groups = number("K") / number("group");
  const double row = number("K") * number("bits") / 8 +
                     groups * (format.mode == kAffine ? 2 * size : 1) + number("has_bias") * size;
  const auto matrices = static_cast<double>(matrices_of(kind));
  const double rows = number("per_pair") != 0 ? pairs : number("M");
  return {rows * number("K") * size + pairs * 4 + read * matrices * number("N") * row +
              pairs * number("N") * size,
          2 * pairs * matrices * number("N") * number("K")};
}

}  // namespace

spec::Op expert_product_op(const Kind& kind) {
  spec::Op op;
  op.name = kind.name;
  op.summary = kind.summary;
  op.inputs = expert_inputs(kind);
  op.outputs = {{"y", [](const Dims& dims) {
                   return spec::Shape{dims.at("M"), dims.at("A"), dims.at("N")};
                 }}};
  op.dims = expert_dims(kind);
  op.batch_dim = "M";
  op.proof_dims = {"N", "E"};
  op.suites = expert_suites(kind);
  op.edge_sizes = expert_edges(kind);
  op.complete = [kind](const Dims& dims) { return complete_experts(kind, dims); };
  op.of_model = [kind](const ModelConfig& config) { return experts_of_model(kind, config); };
  op.mlx = [kind](const spec::Op::Arrays& in, std::span<const double> numbers,
                  const mlx::core::Stream& s) { return experts_in_mlx(kind, in, numbers, s); };
  op.reference = [kind](const std::vector<const void*>& inputs, Dtype t, const Dims& dims,
                        const std::vector<double>&) {
    return reference_of_experts(kind, inputs, t, dims);
  };
  op.bound = [kind](const Dims&) { return bound_of_experts(kind); };
  op.fill = [kind](const spec::FillRequest& request) { fill_experts(kind, request); };
  op.cost = [kind](const Dims& dims, Dtype t) { return cost_of_experts(kind, dims, t); };
  spec::Op ports;  // of messages; it outlives the op that is built here
  ports.name = op.name;
  ports.inputs = op.inputs;
  const auto shared = std::make_shared<const spec::Op>(std::move(ports));
  const auto reader = std::make_shared<const ExpertReader>(*shared, kind);
  op.signature = [shared, reader](std::span<const ArrayView> in, std::span<const double>,
                                  std::span<int64_t> dims) { reader->read(in, dims); };
  op.variants = {experts_on_cpu(kind), cuda_variant_of_experts(kind)};
  return op;
}

}  // namespace mlx_kd::kernels::matmul
