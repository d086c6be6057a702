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
  const std::string gate = gate_activation(config);
  return gate.empty() || gate == "silu" || gate == "swish" || gate == "swiglu"
             ? ""
             : "; but its gate is " + gate + ", which no swiglu kernel serves";
}

// Widths of experts that a config lists, one for each kind of them (ERNIE: of texts, of images).
std::vector<int64_t> listed_widths(const ModelConfig& config) {
  std::vector<int64_t> result;
  const auto list = config.whole().find("moe_intermediate_size");
  if (list == config.whole().end() || !list->is_array()) return result;
  for (const base::Json& width : *list)
    if (width.is_number_integer() && width > 0 && width <= ModelConfig::kLargest)
      result.push_back(width.get<int64_t>());
  const bool are_equal =
      std::all_of(result.begin(), result.end(), [&](int64_t one) { return one == result.front(); });
  return are_equal || result.size() != list->size() ? std::vector<int64_t>{} : result;
}

// The width of routed experts; 0 where the config lists several.
int64_t expert_width(const ModelConfig& config) {
  if (!listed_widths(config).empty()) return 0;
  const int64_t width = config.count("moe_intermediate_size");
  return width > 0 ? width : config.count("expert_ffn_hidden_size");
}

struct Field {
  std::string name;
  int64_t value = 0;
};

// The first of the fields that is there and not 0.
Field first_field(const ModelConfig& config, const std::vector<std::string>& names) {
  for (const std::string& name : names)
    if (const int64_t value = config.count(name)) return {name, value};
  return {};
}

int64_t shared_experts(const ModelConfig& config) {
  return first_field(config, {"n_shared_experts", "num_shared_experts", "moe_num_shared_experts"})
      .value;
}

ModelSizes main_width(const ModelConfig& config) {
  const int64_t expert = expert_width(config);
  const int64_t shared = shared_experts(config);
  const char* const shared_reason = "moe_intermediate_size x n_shared_experts: the shared experts";
  if (config.is_type("glm4_moe_lite") && expert > 0)
    return width("model", shared_reason, expert * std::max<int64_t>(1, shared));
  if (const int64_t d = config.count("shared_expert_intermediate_size"))
    return width("model", "shared_expert_intermediate_size: the shared expert", d);
  if (expert > 0 && shared > 1) return width("model", shared_reason, expert * shared);
  const std::vector<std::string> fields = {"intermediate_size", "ffn_hidden_size",
                                           "feed_forward_proj_size"};
  const int64_t d = config.first_of(fields, "the width of the MLP");
  const auto read = std::find_if(fields.begin(), fields.end(),
                                 [&](const std::string& field) { return config.has(field); });
  return width("model", *read + ": the MLP", d);
}

bool is_listed(int64_t d, const std::vector<ModelSizes>& sizes) {
  return std::any_of(sizes.begin(), sizes.end(),
                     [&](const ModelSizes& s) { return s.per_token == 1 && s.dims.at("D") == d; });
}

// Routed experts: a row for each expert that a token is sent to.
void add_routed(const ModelConfig& config, std::vector<ModelSizes>& result) {
  const Field chosen = first_field(config, chosen_expert_fields());
  if (chosen.value == 0) return;
  const std::string rows = ": routed experts, " + chosen.name + " rows per token" + note_of(config);
  const std::vector<int64_t> listed = listed_widths(config);
  for (size_t i = 0; i < listed.size(); ++i)
    result.push_back(width("routed" + (i ? "_" + std::to_string(i + 1) : std::string()),
                           "moe_intermediate_size, its number " + std::to_string(i + 1) + rows,
                           listed[i], chosen.value));
  if (!listed.empty()) return;
  const Field own =
      first_field(config, {"moe_intermediate_size", "expert_ffn_hidden_size", "intermediate_size"});
  if (own.value == 0 || (chosen.value == 1 && is_listed(own.value, result))) return;
  result.push_back(width("routed", own.name + rows, own.value, chosen.value));
}

void add_shared(const ModelConfig& config, std::vector<ModelSizes>& result) {
  const int64_t d = expert_width(config) * shared_experts(config);
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
