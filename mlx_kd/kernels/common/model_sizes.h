// What operators of several families read from a model's config.json. docs/models.md states the
// rules.
#pragma once

#include "mlx_kd/spec/model_config.h"

namespace mlx_kd::kernels {

// Misuse, naming the fields and what they are needed for (`what`), if the config has none of them.
int64_t hidden_width(const spec::ModelConfig& config, const std::string& what);
int64_t attention_heads(const spec::ModelConfig& config, const std::string& what);  // of queries

int64_t key_heads(const spec::ModelConfig& config, int64_t heads);
int64_t head_width(const spec::ModelConfig& config, int64_t heads);

}  // namespace mlx_kd::kernels
