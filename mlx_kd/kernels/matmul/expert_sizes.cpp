#include "mlx_kd/kernels/matmul/expert_sizes.h"

#include "mlx_kd/kernels/common/model_sizes.h"
#include "mlx_kd/kernels/matmul/model_sizes.h"

namespace mlx_kd::kernels::matmul {
namespace {

using spec::Dims;
using spec::ModelConfig;

struct ExpertSize {
  int64_t chosen, experts, n, k;
  Format format;
  bool per_pair = false, bias = false;
  int64_t activation = 0;
};

Dims dims_of_experts(const Kind& kind, const ExpertSize& size) {
  Dims dims = {{"A", size.chosen}, {"E", size.experts}, {"N", size.n}, {"K", size.k}};
  if (kind.form == Form::gated) dims.set("activation", size.activation);
  if (kind.quantised) {
    dims.set("bits", size.format.bits);
    dims.set("group", size.format.group);
    dims.set("mode", size.format.mode);
  }
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

}  // namespace

std::vector<spec::Suite> expert_suites(const Kind& kind) {
  constexpr Format kFour = {4, 64, kAffine}, kMxfp = {4, 32, kMxfp4};
  const Dims some = dims_of_experts(kind, size_of_layer(kind, 8, 64, 2048, 1024, kFour));
  const Dims qwen = dims_of_experts(kind, size_of_layer(kind, 8, 128, 2048, 768, kFour));
  ExpertSize oss = size_of_layer(kind, 4, 32, 2880, 2880, kMxfp);
  oss.bias = true;
  oss.activation = 2;
  if (kind.many_rows)
    return {{"experts_64_prompt", {with_tokens(32, some)}},
            {"qwen3_30b_a3b_prompt", {with_tokens(32, qwen)}}};
  std::vector<spec::Suite> suites = {{"experts_64_decode", {}}, {"qwen3_30b_a3b_decode", {}}};
  for (const int64_t tokens : {1, 2, 4}) {
    suites[0].sizes.push_back(with_tokens(tokens, some));
    suites[1].sizes.push_back(with_tokens(tokens, qwen));
  }
  if (kind.quantised)
    suites.push_back({"gpt_oss_20b_decode", {with_tokens(1, dims_of_experts(kind, oss))}});
  return suites;
}

// Remainders of every vector and batch, all formats, more ids than experts; of many tokens, some of
// them have few rows of an expert and some several blocks.
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
  for (auto [tokens, size] : edges) {
    if (!kind.quantised) size.k -= tokens % 3;  // any length
    sizes.push_back(with_tokens(kind.many_rows ? 5 * tokens : tokens, dims_of_experts(kind, size)));
  }
  return sizes;
}

std::vector<spec::ModelSizes> experts_of_model(const Kind& kind, const ModelConfig& config) {
  const int64_t experts = expert_count(config);
  const int64_t chosen = chosen_experts(config);
  const int64_t width =
      config.first_of({"moe_intermediate_size", "expert_ffn_hidden_size", "intermediate_size"},
                      "the width of the experts");
  const bool is_oss = config.is_type("gpt_oss");
  ExpertSize size =
      size_of_layer(kind, chosen, experts, hidden_width(config, "the width between layers"), width,
                    stated_format(config));
  size.bias = is_oss;
  size.activation = is_oss ? 2 : uses_gelu(config) ? 1 : 0;
  const std::string what =
      kind.form == Form::gated ? "gate and up" + gate_note(config) : "the product back";
  spec::ModelSizes sizes = {
      "model", "hidden_size, the width of the experts, and how many a token chooses: " + what,
      dims_of_experts(kind, size)};
  if (config.part("quantization").has_value() == kind.quantised)
    (kind.many_rows ? sizes.calls.prompt : sizes.calls.decode) =
        layer_count(config) - dense_layers(config);
  return {sizes};
}

}  // namespace mlx_kd::kernels::matmul
