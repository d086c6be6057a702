// What operators of several families read from a model's config.json. docs/models.md states the
// rules.
#pragma once

#include "mlx_kd/spec/op/model_config.h"

namespace mlx_kd::kernels {

// Misuse, naming the fields and what they are needed for (`what`), if the config has none of them.
int64_t hidden_width(const spec::ModelConfig& config, const std::string& what);
int64_t attention_heads(const spec::ModelConfig& config, const std::string& what);  // of queries

int64_t key_heads(const spec::ModelConfig& config, int64_t heads);
int64_t head_width(const spec::ModelConfig& config, int64_t heads);

// The activation of the MLP's gate, as the config spells it; "" where it names none.
std::string gate_activation(const spec::ModelConfig& config);

// Layers; 0 where the config does not say.
int64_t layer_count(const spec::ModelConfig& config);
int64_t attention_layers(const spec::ModelConfig& config);  // hybrid models have others too
int64_t dense_layers(const spec::ModelConfig& config);      // whose MLP has no experts

// How many routed experts there are, and how many a token chooses. Misuse, naming the fields, where
// the config has none.
int64_t expert_count(const spec::ModelConfig& config);
int64_t chosen_experts(const spec::ModelConfig& config);
// What a config may call how many a token chooses: the first that is there counts.
const std::vector<std::string>& chosen_expert_fields();

bool has_latent_attention(const spec::ModelConfig& config);
// Whether positions are turned by frequencies of the model's own (rope_scaling) instead of powers
// of rope_theta.
bool has_own_frequencies(const spec::ModelConfig& config);

}  // namespace mlx_kd::kernels
