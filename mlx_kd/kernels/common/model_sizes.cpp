#include "mlx_kd/kernels/common/model_sizes.h"

#include <algorithm>

namespace mlx_kd::kernels {

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

}  // namespace mlx_kd::kernels
