#include "mlx_kd/kernels/activations/swiglu/model_sizes.h"

#include <algorithm>

#include "mlx_kd/kernels/common/model_sizes.h"
#include "mlx_kd/kernels/divide_up.h"

namespace mlx_kd::kernels::swiglu {
namespace {

using spec::ModelConfig;
using spec::ModelSizes;

ModelSizes width(const std::string& name, const std::string& reason, int64_t d,
                 int64_t per_token = 1) {
  return {name, reason, {{"D", d}}, per_token};
}

// MLPs whose gate is not silu (Gemma, Falcon) are not swiglu.
std::string note_of(const ModelConfig& config) {
  for (const char* field : {"hidden_activation", "hidden_act", "activation_function", "activation"})
    if (const std::string gate = config.text(field); !gate.empty())
      return gate == "silu" || gate == "swish" || gate == "swiglu"
                 ? ""
                 : "; but its gate is " + gate.substr(0, 40) + ", which no swiglu kernel serves";
  return "";
}

ModelSizes main_width(const ModelConfig& config) {
  const int64_t expert = config.count("moe_intermediate_size");
  const int64_t shared = config.count("n_shared_experts");
  const char* const shared_reason = "moe_intermediate_size x n_shared_experts: the shared experts";
  if (config.is_type("glm4_moe_lite") && expert > 0)
    return width("model", shared_reason, expert * std::max<int64_t>(1, shared));
  if (const int64_t d = config.count("shared_expert_intermediate_size"))
    return width("model", "shared_expert_intermediate_size: the shared expert", d);
  if (expert > 0 && shared > 1) return width("model", shared_reason, expert * shared);
  const int64_t d = config.first_of(
      {"intermediate_size", "ffn_hidden_size", "feed_forward_proj_size"}, "the width of the MLP");
  return width("model", "intermediate_size: the MLP", d);
}

bool is_listed(int64_t d, const std::vector<ModelSizes>& sizes) {
  return std::any_of(sizes.begin(), sizes.end(),
                     [&](const ModelSizes& s) { return s.per_token == 1 && s.dims.at("D") == d; });
}

// Routed experts: a row for each expert that a token is sent to.
void add_routed(const ModelConfig& config, std::vector<ModelSizes>& result) {
  const int64_t chosen = config.count("num_experts_per_tok");
  const int64_t own = config.count("moe_intermediate_size");
  const int64_t d = own > 0 ? own : config.count("intermediate_size");
  if (chosen == 0 || d == 0 || (chosen == 1 && is_listed(d, result))) return;
  const std::string field = own > 0 ? "moe_intermediate_size" : "intermediate_size";
  result.push_back(
      width("routed", field + ": routed experts, num_experts_per_tok rows per token", d, chosen));
}

void add_shared(const ModelConfig& config, std::vector<ModelSizes>& result) {
  const int64_t d = config.count("moe_intermediate_size") * config.count("n_shared_experts");
  if (d > 0 && !is_listed(d, result))
    result.push_back(
        width("shared", "moe_intermediate_size x n_shared_experts: the shared experts", d));
}

void add_dense(const ModelConfig& config, std::vector<ModelSizes>& result) {
  for (const char* field : {"intermediate_size_mlp", "intermediate_size"})
    if (const int64_t d = config.count(field); d > 0 && !is_listed(d, result)) {
      result.push_back(width("dense", std::string(field) + ": the layers without experts", d));
      return;
    }
}

// LFM2 takes two thirds of the width it states and rounds up.
void add_adjusted(const ModelConfig& config, std::vector<ModelSizes>& result) {
  const int64_t stated = config.count("block_ff_dim");
  if (stated == 0 || !config.flag("block_auto_adjust_ff_dim")) return;
  const int64_t multiple = config.integer_or("block_multiple_of", 256);
  const int64_t d = divide_up(2 * stated / 3, multiple) * multiple;
  result.push_back(
      width("adjusted",
            "block_ff_dim x 2/3, up to a multiple of block_multiple_of: the MLP as the "
            "model's code makes it",
            d));
}

}  // namespace

std::vector<ModelSizes> model_sizes(const ModelConfig& config) {
  std::vector<ModelSizes> result = {main_width(config)};
  result.front().reason += note_of(config);
  add_routed(config, result);
  add_shared(config, result);
  add_dense(config, result);
  add_adjusted(config, result);
  // A step of decoding has it in the products.
  const int64_t dense = config.count("intermediate_size");
  for (ModelSizes& size : result)
    if (note_of(config).empty() && size.per_token == 1 && size.dims.at("D") == dense)
      size.calls.prompt = dense_layers(config);
  return result;
}

}  // namespace mlx_kd::kernels::swiglu
