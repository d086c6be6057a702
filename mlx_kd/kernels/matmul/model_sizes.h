// Sizes of products: suites, edges, and those of a model.
#pragma once

#include <vector>

#include "mlx_kd/kernels/matmul/products.h"
#include "mlx_kd/kernels/matmul/weights64.h"

namespace mlx_kd::kernels::matmul {

// The quantisation that the config states, or what models are converted to by default.
Format stated_format(const spec::ModelConfig& config);
// Whether its gates are GELUs.
bool uses_gelu(const spec::ModelConfig& config);
// What a reason says of a gate that no product with a gate computes; "" where one does.
std::string gate_note(const spec::ModelConfig& config);

// Of the operator qembedding.
std::vector<spec::ModelSizes> embedding_sizes(const spec::ModelConfig& config);

std::vector<spec::Suite> suites_of(const Kind& kind);
std::vector<spec::Dims> edges_of(const Kind& kind);
std::vector<spec::ModelSizes> sizes_of_model(const Kind& kind, const spec::ModelConfig& config);

}  // namespace mlx_kd::kernels::matmul
