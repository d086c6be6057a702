// What several ops read from a model's config.json. docs/models.md states the rules.
#pragma once

#include "mlx_kd/spec/model_config.h"

namespace mlx_kd::kernels {

// The width of the residual stream, for the norms between layers.
spec::ModelSizes hidden_norm(const spec::ModelConfig& config);

// The norms inside attention: of queries and keys a head or a token, of the latents of MLA. Empty
// where the model has none.
std::vector<spec::ModelSizes> attention_norms(const spec::ModelConfig& config);

// Of attention, in queries.
int64_t attention_heads(const spec::ModelConfig& config, const std::string& what);

}  // namespace mlx_kd::kernels
