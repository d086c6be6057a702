#include "mlx_kd/kernels/common/model_sizes.h"

#include <algorithm>

namespace mlx_kd::kernels {
namespace {

const std::vector<std::string>& expert_fields() {
  static const std::vector<std::string> fields = {"num_experts", "num_local_experts",
                                                  "n_routed_experts", "moe_num_experts"};
  return fields;
}

}  // namespace

int64_t hidden_width(const spec::ModelConfig& config, const std::string& what) {
  return config.first_of({"hidden_size", "n_embd", "d_model"}, what);
}

int64_t attention_heads(const spec::ModelConfig& config, const std::string& what) {
  return config.first_of({"num_attention_heads", "n_head"}, what);
}

int64_t key_heads(const spec::ModelConfig& config, int64_t heads) {
  return config.integer_or("num_key_value_heads", heads);
}

int64_t head_width(const spec::ModelConfig& config, int64_t heads) {
  if (const auto width = config.integer("head_dim")) return *width;
  return std::max<int64_t>(1, hidden_width(config, "the width of the norms") / heads);
}

std::string gate_activation(const spec::ModelConfig& config) {
  for (const char* field :
       {"mlp_hidden_act", "hidden_activation", "hidden_act", "activation_function", "activation"})
    if (std::string gate = config.text(field); !gate.empty()) return gate.substr(0, 40);
  return "";
}

int64_t layer_count(const spec::ModelConfig& config) {
  for (const char* field : {"num_hidden_layers", "n_layer", "n_layers"})
    if (const auto count = config.integer(field)) return *count;
  return 0;
}

int64_t attention_layers(const spec::ModelConfig& config) {
  const int64_t layers = layer_count(config);
  if (const auto interval = config.integer("full_attention_interval")) return layers / *interval;
  const std::vector<std::string> types = config.texts("layer_types");
  if (types.empty()) return layers;
  return std::count_if(types.begin(), types.end(), [](const std::string& type) {
    return type == "full_attention" || type == "sliding_attention" || type == "chunked_attention";
  });
}

int64_t dense_layers(const spec::ModelConfig& config) {
  const int64_t layers = layer_count(config);
  for (const std::string& experts : expert_fields())
    if (config.count(experts) > 1)
      return std::min(
          layers, std::max({config.count("first_k_dense_replace"), config.count("num_dense_layers"),
                            config.count("moe_layer_start_index")}));
  return layers;
}

int64_t expert_count(const spec::ModelConfig& config) {
  return config.first_of(expert_fields(), "the experts");
}

int64_t chosen_experts(const spec::ModelConfig& config) {
  return config.first_of(chosen_expert_fields(), "the experts that a token chooses");
}

const std::vector<std::string>& chosen_expert_fields() {
  static const std::vector<std::string> fields = {"num_experts_per_tok",
                                                  "num_experts_per_token",
                                                  "top_k_experts",
                                                  "experts_per_token",
                                                  "moe_topk",
                                                  "moe_k"};
  return fields;
}

bool has_latent_attention(const spec::ModelConfig& config) {
  return config.has("kv_lora_rank");
}

bool has_own_frequencies(const spec::ModelConfig& config) {
  for (const char* field : {"rope_scaling", "rope_parameters"})
    if (const auto part = config.part(field))
      for (const char* name : {"rope_type", "type"})
        if (const std::string type = part->text(name); !type.empty())
          return type != "default" && type != "linear";
  return false;
}

}  // namespace mlx_kd::kernels
