#include "mlx_kd/kernels/routing/experts.h"

#include "mlx_kd/kernels/common/model_sizes.h"

namespace mlx_kd::kernels::routing {

Experts experts_of(const spec::ModelConfig& config) {
  Experts experts = {};
  experts.layers = layer_count(config) - dense_layers(config);
  experts.count =
      config.first_of({"num_experts", "num_local_experts", "n_routed_experts"}, "the experts");
  experts.chosen = config.first_of({"num_experts_per_tok", "experts_per_token", "moe_topk"},
                                   "the experts that a token chooses");
  experts.is_of_chosen = config.is_type("gpt_oss") || config.is_type("mixtral");
  experts.is_sigmoid = config.text("scoring_func") == "sigmoid" || config.is_type("deepseek_v3") ||
                       config.is_type("glm4_moe");
  experts.normalises = config.flag("norm_topk_prob");
  experts.groups = config.integer_or("n_group", 1);
  experts.top_groups = config.integer_or("topk_group", experts.groups);
  return experts;
}

}  // namespace mlx_kd::kernels::routing
