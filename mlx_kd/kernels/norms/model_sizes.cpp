#include "mlx_kd/kernels/norms/model_sizes.h"

#include <algorithm>

#include "mlx_kd/kernels/common/model_sizes.h"

namespace mlx_kd::kernels {
namespace {

using spec::ModelConfig;
using spec::ModelSizes;

// Models whose code norms queries and keys although their config does not say so.
constexpr const char* kByHead[] = {"qwen3", "gemma3", "gemma4", "lfm2"};
constexpr const char* kByToken[] = {"olmo2", "olmo3", "olmoe"};
// Models with LayerNorm, or with a norm without weights, in the same places.
constexpr const char* kLayerNorm[] = {"gpt2",  "gpt_neox", "gptj",     "falcon",     "cohere",
                                      "bloom", "opt",      "mpt",      "starcoder2", "stablelm",
                                      "phi",   "codegen",  "persimmon"};

template <class Names>
bool is_any(const ModelConfig& config, const Names& names) {
  return std::any_of(std::begin(names), std::end(names),
                     [&](const char* name) { return config.is_type(name); });
}

bool has_layer_norm(const ModelConfig& config) {
  return is_any(config, kLayerNorm) && !config.is_type("phi3") && !config.is_type("phi4") &&
         !config.is_type("falcon_h1");
}

bool is_flagged(const ModelConfig& config) {
  return config.flag("use_qk_norm") && !has_layer_norm(config) && !config.is_type("llama4");
}

ModelSizes norm(const std::string& name, const std::string& reason, int64_t width,
                int64_t per_token = 1) {
  return {name, reason, {{"D", width}}, per_token};
}

void add_latent_norms(const ModelConfig& config, std::vector<ModelSizes>& result) {
  if (const auto rank = config.integer("q_lora_rank"))
    result.push_back(norm("q_latent_norm", "q_lora_rank: the norm of the latent query", *rank));
  if (const auto rank = config.integer("kv_lora_rank"))
    result.push_back(norm("kv_latent_norm", "kv_lora_rank: the norm of the latent cache", *rank));
}

void add_head_norms(const ModelConfig& config, std::vector<ModelSizes>& result) {
  const int64_t heads = attention_heads(config, "whose queries are normed");
  const int64_t width = head_width(config, heads);
  const int64_t keys = key_heads(config, heads);
  result.push_back(
      norm("q_norm", "the norm of queries: head_dim wide, one row per head", width, heads));
  if (keys != heads)
    result.push_back(
        norm("k_norm", "the norm of keys: head_dim wide, one row per head", width, keys));
}

// Layers that a config describes apart (Gemma 4: those of full attention).
void add_layer_norms(const ModelConfig& config, std::vector<ModelSizes>& result) {
  const auto layers = config.part("per_layer_config");
  if (!layers) return;
  const int64_t heads = attention_heads(config, "whose queries are normed");
  std::vector<int64_t> seen = {head_width(config, heads)};
  for (const std::string& name : layers->fields()) {
    const auto layer = layers->part(name);
    const int64_t width = layer ? layer->integer_or("head_dim", 0) : 0;
    if (width == 0 || std::find(seen.begin(), seen.end(), width) != seen.end()) continue;
    seen.push_back(width);
    const std::string suffix = "_" + std::to_string(width);
    const std::string where = ": head_dim of layer " + name + ", one row per head";
    const int64_t own = layer->integer_or("num_attention_heads", heads);
    const int64_t keys = layer->integer_or("num_key_value_heads", key_heads(config, heads));
    result.push_back(norm("q_norm" + suffix, "the norm of queries" + where, width, own));
    if (keys != own)
      result.push_back(norm("k_norm" + suffix, "the norm of keys" + where, width, keys));
  }
}

void add_token_norms(const ModelConfig& config, std::vector<ModelSizes>& result) {
  const int64_t heads = attention_heads(config, "whose queries are normed");
  const int64_t width = head_width(config, heads);
  const int64_t keys = key_heads(config, heads);
  result.push_back(norm("q_norm", "the norm of queries: over all heads of a token", width * heads));
  if (keys != heads)
    result.push_back(norm("k_norm", "the norm of keys: over all heads of a token", width * keys));
}

}  // namespace

ModelSizes hidden_norm(const ModelConfig& config) {
  const int64_t width = hidden_width(config, "the width of the norms");
  const std::string note =
      has_layer_norm(config)
          ? "; but " + config.model_type() + " norms by LayerNorm, which no RMSNorm kernel serves"
          : "";
  return norm("model", "hidden_size: the norms between layers" + note, width);
}

std::vector<ModelSizes> attention_norms(const ModelConfig& config) {
  std::vector<ModelSizes> result;
  add_latent_norms(config, result);
  const bool by_token = is_any(config, kByToken) ||
                        (is_flagged(config) && config.text("qk_norm_type") == "per_layer");
  if (by_token) {
    add_token_norms(config, result);
  } else if (is_any(config, kByHead) || is_flagged(config)) {
    add_head_norms(config, result);
    add_layer_norms(config, result);
  }
  return result;
}

}  // namespace mlx_kd::kernels
