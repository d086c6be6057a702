#include "mlx_kd/discover/models/tune_plan.h"

#include <algorithm>
#include <iterator>
#include <optional>

#include "mlx_kd/base/error.h"
#include "mlx_kd/kernels/op_table.h"
#include "mlx_kd/shapes/sizes.h"
#include "mlx_kd/spec/op/rows.h"

namespace mlx_kd::discover {
namespace {

constexpr int64_t kMostRows = 16;          // of a step of decoding
constexpr int64_t kPromptFactor = 4;       // prompts up to so many times as long as the one given
constexpr int64_t kKeys[] = {7, 64, 511};  // sampled, of a cache that grows

spec::Dims size_with(const spec::Op& op, const spec::ModelSizes& place, int64_t first) {
  spec::Dims dims = {{op.batch_dim, first}};
  for (const auto& [name, value] : place.dims.items()) dims.set(name, value);
  return shapes::checked_size(op, dims);
}

void add_range(const spec::Op& op, int64_t lo, int64_t hi, ModelUse& use) {
  const auto ranged = shapes::ranged_dims(op);
  if (lo < hi && std::find(ranged.begin(), ranged.end(), op.batch_dim) != ranged.end())
    use.ranges = {{op.batch_dim, lo, hi}};
}

ModelUse decode_use(const spec::Op& op, const spec::ModelSizes& place, const PassSizes& sizes) {
  ModelUse use{&op, op.name + "." + place.name, place.reason, false, place.calls.decode, {}, {}};
  if (!place.lengths.empty()) {
    // The longest first: its time counts.
    for (auto at = place.lengths.rbegin(); at != place.lengths.rend(); ++at)
      use.sizes.push_back(size_with(op, place, *at));
    use.ranges = {{op.batch_dim, 1, place.lengths.back(), {std::begin(kKeys), std::end(kKeys)}}};
    return use;
  }
  for (const int64_t rows : sizes.rows)
    use.sizes.push_back(size_with(op, place, rows * place.per_token));
  const int64_t most = std::max(*std::max_element(sizes.rows.begin(), sizes.rows.end()), kMostRows);
  add_range(op, place.per_token, most * place.per_token, use);
  return use;
}

// Queries over keys: prompts, the keys before them included. With a mask or a bias of their own,
// which are as large as all scores, no more than in the prompt.
void add_ranges_of_queries(const spec::Op& op, int64_t prompt, ModelUse& use) {
  const std::string& queries = spec::rows_dim(op);
  const spec::Dims& size = use.sizes.front();
  const int64_t least = kMostRows + 1;
  if (queries == op.batch_dim || size.at(queries) != prompt || prompt <= least + 1) return;
  const bool is_large = size.at("has_mask") || size.at("has_bias");
  const int64_t most = is_large ? prompt : kPromptFactor * prompt + 1;
  const int64_t inside = is_large ? (least + prompt) / 2 : prompt;
  for (const std::string& dim : shapes::ranged_dims(op))
    use.ranges.push_back({dim, least, most, {inside}});
}

ModelUse prompt_use(const spec::Op& op, const spec::ModelSizes& place, int64_t prompt) {
  ModelUse use{
      &op, op.name + "." + place.name + ".prompt", place.reason, true, place.calls.prompt, {}, {}};
  if (!place.lengths.empty()) {  // keys: as many as there are in the prompt
    use.sizes = {size_with(op, place, place.lengths.back())};
    add_ranges_of_queries(op, prompt, use);
    return use;
  }
  use.sizes = {size_with(op, place, prompt * place.per_token)};
  if (prompt <= kMostRows) return use;
  const int64_t least = (kMostRows + 1) * place.per_token, given = prompt * place.per_token;
  add_range(op, least, (kPromptFactor * prompt + 1) * place.per_token, use);
  // The prompt is a sample itself: none is needed between it and the longest.
  std::vector<int64_t> inside = shapes::sample_range({op.batch_dim, least, given});
  if (inside.size() > 2 && !use.ranges.empty())
    use.ranges.front().inside = {inside.begin() + 1, inside.end() - 1};
  return use;
}

// Places with one size are one use: gate and up, keys and values.
void add_use(ModelUse use, std::vector<ModelUse>& uses) {
  for (ModelUse& known : uses)
    if (known.op == use.op && known.prompt == use.prompt && known.sizes == use.sizes) {
      known.calls += use.calls;
      return;
    }
  uses.push_back(std::move(use));
}

}  // namespace

std::vector<ModelPass> passes_of(const PassSizes& sizes) {
  std::vector<ModelPass> result;
  for (const int64_t rows : sizes.rows) result.push_back({false, rows});
  if (sizes.prompt > 0) result.push_back({true, sizes.prompt});
  return result;
}

std::optional<ModelUse> few_queries_of(const ModelUse& prompt) {
  const spec::Op& op = *prompt.op;
  const std::string& queries = spec::rows_dim(op);
  if (prompt.ranges.empty() || queries == op.batch_dim) return std::nullopt;
  ModelUse use = prompt;
  use.name += ".few";
  use.calls = 0;
  spec::Dims dims;
  for (const std::string& name : op.dim_names())
    dims.set(name, name == queries ? kMostRows : prompt.sizes.front().at(name));
  use.sizes = {shapes::checked_size(op, dims)};
  for (shapes::DimRange& range : use.ranges)
    range = range.dim == queries ? shapes::DimRange{range.dim, 2, kMostRows}
                                 : shapes::DimRange{range.dim, 2, key_lengths().back(), {kKeys[1]}};
  return use;
}

bool is_over_keys(const spec::Op& op) {
  return op.batch_dim == "S";
}

std::vector<int64_t> key_lengths() {
  return {64, 512, 4096};
}

ModelUse use_of(const spec::Op& op, const spec::ModelSizes& place, const PassSizes& sizes,
                bool prompt) {
  return prompt ? prompt_use(op, place, sizes.prompt) : decode_use(op, place, sizes);
}

ModelUses uses_of(const spec::ModelConfig& config, const PassSizes& sizes) {
  config.first_of({"hidden_size", "n_embd", "d_model"}, "the width between layers");
  config.first_of({"num_hidden_layers", "n_layer", "n_layers"}, "how often a token calls each op");
  config.first_of({"num_attention_heads", "n_head"}, "the heads of a layer");
  config.first_of(
      {"intermediate_size", "ffn_hidden_size", "block_ff_dim", "n_inner", "moe_intermediate_size"},
      "the width of the MLP");
  ModelUses result;
  for (const spec::Op& op : kernels::all_ops()) {
    if (!op.of_model) continue;
    try {
      for (const spec::ModelSizes& place : op.of_model(config)) {
        if (place.calls.decode > 0) add_use(use_of(op, place, sizes, false), result.uses);
        if (place.calls.prompt > 0 && sizes.prompt > 0)
          add_use(use_of(op, place, sizes, true), result.uses);
      }
    } catch (const base::Error& error) {
      result.without.push_back(op.name + ": " + error.what());
    }
  }
  if (result.uses.empty())
    base::misuse("discover", "no operator is called by " + config.origin() +
                                 ": its layers are of a kind that mlx_kd.patch leaves as they are");
  return result;
}

spec::Dtype float_type_of(const spec::ModelConfig& config) {
  for (const char* field : {"dtype", "torch_dtype"})
    for (const spec::Dtype type : spec::float_dtypes())
      if (config.text(field) == spec::name_of(type)) return type;
  return spec::Dtype::bfloat16;
}

}  // namespace mlx_kd::discover
