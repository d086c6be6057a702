// Sizes of products with chosen experts: suites, edges, and those of a model.
#pragma once

#include <vector>

#include "mlx_kd/kernels/matmul/products.h"

namespace mlx_kd::kernels::matmul {

std::vector<spec::Suite> expert_suites(const Kind& kind);
std::vector<spec::Dims> expert_edges(const Kind& kind);
std::vector<spec::ModelSizes> experts_of_model(const Kind& kind, const spec::ModelConfig& config);

}  // namespace mlx_kd::kernels::matmul
