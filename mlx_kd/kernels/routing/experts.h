// What a model's config says about its experts.
#pragma once

#include "mlx_kd/spec/op/model_config.h"

namespace mlx_kd::kernels::routing {

struct Experts {
  int64_t layers;  // that have experts
  int64_t count, chosen;
  bool is_sigmoid;    // scores are sigmoids with a correction, not a softmax
  bool is_of_chosen;  // the softmax is of the chosen logits alone
  bool normalises;
  int64_t groups, top_groups;
};

// Misuse, naming the fields, where the config has no experts.
Experts experts_of(const spec::ModelConfig& config);

}  // namespace mlx_kd::kernels::routing
