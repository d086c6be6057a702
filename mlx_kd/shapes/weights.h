// Whether the weights in a model's folder are those of its config.
#pragma once

#include <filesystem>

#include "mlx_kd/spec/op/model_config.h"

namespace mlx_kd::shapes {

// Looks at the shape of the embedding of tokens, in the headers of the folder's safetensors files;
// no weight is read. Misuse (room shapes), with both numbers, where it has another width than the
// config states, or codes of another number of bits. Nothing where there are no such files, or none
// with an embedding under a name that mlx-lm loads.
void check_weights(const std::filesystem::path& folder, const spec::ModelConfig& config);

}  // namespace mlx_kd::shapes
