// The widths of a model's gated MLPs, from its config.json.
#pragma once

#include "mlx_kd/spec/op/model_config.h"

namespace mlx_kd::kernels::swiglu {

// The MLP that every token passes first; then routed experts and dense layers where they differ.
std::vector<spec::ModelSizes> model_sizes(const spec::ModelConfig& config);

}  // namespace mlx_kd::kernels::swiglu
