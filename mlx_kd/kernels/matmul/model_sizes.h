// Sizes of products: suites, edges, and those of a model.
#pragma once

#include <vector>

#include "mlx_kd/kernels/matmul/products.h"

namespace mlx_kd::kernels::matmul {

std::vector<spec::Suite> suites_of(const Kind& kind);
std::vector<spec::Dims> edges_of(const Kind& kind);
std::vector<spec::ModelSizes> sizes_of_model(const Kind& kind, const spec::ModelConfig& config);

}  // namespace mlx_kd::kernels::matmul
