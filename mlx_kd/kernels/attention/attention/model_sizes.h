// The sizes of attention that a model's config gives.
#pragma once

#include <vector>

#include "mlx_kd/spec/op/model_config.h"

namespace mlx_kd::kernels::attention {

std::vector<spec::ModelSizes> model_sizes(const spec::ModelConfig& config);

}  // namespace mlx_kd::kernels::attention
