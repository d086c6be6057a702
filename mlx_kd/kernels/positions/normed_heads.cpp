#include "mlx_kd/kernels/positions/normed_heads.h"

#include <mlx/fast.h>

#include <cmath>
#include <stdexcept>

#include "mlx_kd/kernels/common/shapes.h"

namespace mlx_kd::kernels {

using spec::Dims;

std::function<spec::Shape(const Dims&)> weight_if(const char* attribute) {
  return
      [attribute](const Dims& dims) { return spec::Shape{dims.at(attribute) ? dims.at("D") : 0}; };
}

bool has_weight(const char* op, const char* name, const spec::ArrayView& weight, int64_t width) {
  if (is_left_out(weight)) return false;
  if (weight.shape.size() != 1 || weight.shape[0] != width)
    throw std::invalid_argument("[" + std::string(op) + "] " + name + " has shape " +
                                shape_text(weight.shape) + ": it must be (" +
                                std::to_string(width) + "), as q says");
  return true;
}

Dims complete_heads(const Dims& dims) {
  Dims result = complete_rotary(dims);
  for (const char* weight : {"has_wq", "has_wk"}) result.set(weight, dims.at(weight) > 0);
  return result;
}

mlx::core::array heads_in_mlx(const mlx::core::array& x, const mlx::core::array& weight, double eps,
                              const MlxRotation& by, const mlx::core::Stream& s) {
  const bool normed = !is_left_out(weight);
  return rotated_in_mlx(
      normed ? mlx::core::fast::rms_norm(x, weight, static_cast<float>(eps), s) : x, by, s);
}

spec::ErrorBound bound_of_heads(const Dims& dims) {
  if (!dims.at("has_wq") && !dims.at("has_wk")) return {kRotaryRoundings, kRotaryDerivation};
  return {
      kRotaryRoundings + 3 * std::sqrt(static_cast<double>(dims.at("D"))) + 9,
      std::string(kRotaryDerivation) +
          " The scale of a norm: half of 6 sqrt(D) for a sum of D squares (Higham and Mary 2019, "
          "theorem 2.4) and 7 for the other steps; 2 for the products with it and the weight."};
}

bool norms_heads(const spec::ModelConfig& config) {
  return config.is_type("qwen3") || config.is_type("gemma3") || config.is_type("lfm2");
}

}  // namespace mlx_kd::kernels
