#include "mlx_kd/kernels/matmul/quantisation.h"

#include <cstdlib>

namespace mlx_kd::kernels::matmul {
namespace {

// The layer in a module's path ("model.layers.7.mlp.down_proj"), -1 where it is in none.
int64_t layer_in(const std::string& path) {
  const std::string mark = "layers.";
  const size_t at = path.find(mark);
  if (at == path.npos || at + mark.size() >= path.size()) return -1;
  const char first = path[at + mark.size()];
  return first < '0' || first > '9' ? -1
                                    : std::strtoll(path.c_str() + at + mark.size(), nullptr, 10);
}

}  // namespace

Format format_in(const spec::ModelConfig& part) {
  Format format = {part.integer_or("bits", 4), part.integer_or("group_size", 64), kAffine};
  const std::string mode = part.text("mode");
  for (int64_t i = kMxfp4; i <= kNvfp4; ++i)
    if (mode == mlx_mode({0, 0, i})) format.mode = i;
  return format;
}

Quantisation::Quantisation(const spec::ModelConfig& config) {
  const auto part = config.part("quantization");
  if (!part) return;
  all_ = format_in(*part);
  for (const std::string& path : part->fields()) {
    const bool is_module = path.find('.') != path.npos || path == "lm_head";
    if (!is_module || part->flag(path)) continue;
    const auto other = part->part(path);
    const std::string name = path.substr(path.rfind('.') + 1);  // npos + 1 is 0
    others_[{layer_in(path), name}] = other ? format_in(*other) : Format();
  }
}

Format Quantisation::of(int64_t layer, const std::string& module) const {
  const auto found = others_.find({layer, module});
  return found == others_.end() ? all_ : found->second;
}

}  // namespace mlx_kd::kernels::matmul
