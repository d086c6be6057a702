#include "mlx_kd/kernels/routing/experts.h"

#include "mlx_kd/kernels/common/model_sizes.h"

namespace mlx_kd::kernels::routing {

Experts experts_of(const spec::ModelConfig& config) {
  Experts experts = {};
  experts.layers = layer_count(config) - dense_layers(config);
  experts.count = expert_count(config);
  experts.chosen = chosen_experts(config);
  experts.is_of_chosen =
      config.is_type("gpt_oss") || config.is_type("mixtral") || config.is_type("gemma4");
  experts.is_sigmoid = config.text("scoring_func") == "sigmoid" || config.is_type("deepseek_v3") ||
                       config.is_type("glm4_moe");
  experts.normalises = config.flag("norm_topk_prob") || config.is_type("ernie4_5_moe");
  experts.groups = config.integer_or("n_group", 1);
  experts.top_groups = config.integer_or("topk_group", experts.groups);
  return experts;
}

}  // namespace mlx_kd::kernels::routing
