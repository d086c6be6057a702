// The norms of a model, by its config.json. docs/models.md states the rules.
#pragma once

#include "mlx_kd/spec/op/model_config.h"

namespace mlx_kd::kernels {

// The width of the residual stream, for the norms between layers.
spec::ModelSizes hidden_norm(const spec::ModelConfig& config);

// The norms inside attention: of queries and keys per head or per token, of the latents of MLA.
// Empty if the model has none.
std::vector<spec::ModelSizes> attention_norms(const spec::ModelConfig& config);

}  // namespace mlx_kd::kernels
