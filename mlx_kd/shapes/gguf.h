// The sizes of a model in a GGUF file, from the keys in front of its tensors.
#pragma once

#include <filesystem>

#include "mlx_kd/base/json.h"

namespace mlx_kd::shapes {

// Whether the file begins as a GGUF file does.
bool is_gguf(const std::filesystem::path& path);

// What the file's keys say, as the fields of a config.json: hidden_size, num_attention_heads, ...
// The tensors are not read. Misuse (room shapes) for a file that ends early, a version that is not
// known, counts that no model has, and keys that do not name the model's sizes.
base::Json gguf_config(const std::filesystem::path& path);

}  // namespace mlx_kd::shapes
