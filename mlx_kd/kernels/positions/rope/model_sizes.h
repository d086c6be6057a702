// The pack of latent (MLA) attention, from a model's config.json.
#pragma once

#include "mlx_kd/spec/op/model_config.h"

namespace mlx_kd::kernels::rope {

// The pack form (D_NOPE = qk_nope_head_dim), then the latent form (D_NOPE = kv_lora_rank) where the
// config gives its rank. Misuse for models without MLA.
std::vector<spec::ModelSizes> model_sizes(const spec::ModelConfig& config);

}  // namespace mlx_kd::kernels::rope
