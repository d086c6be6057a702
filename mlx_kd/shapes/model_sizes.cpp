#include "mlx_kd/shapes/model_sizes.h"

#include <algorithm>
#include <charconv>

#include "mlx_kd/base/error.h"
#include "mlx_kd/shapes/sizes.h"

namespace mlx_kd::shapes {
namespace {

constexpr int64_t kMostTokens = int64_t(1) << 31;

// Prefill counts follow decode counts; what both name counts once.
std::vector<int64_t> counts_of(const spec::ModelSizes& model, const TokenCounts& tokens) {
  std::vector<int64_t> result = tokens.decode;
  if (model.decode_only) return result;
  for (int64_t count : tokens.prefill)
    if (std::find(result.begin(), result.end(), count) == result.end()) result.push_back(count);
  return result;
}

Suggestion expand(const spec::Op& op, const spec::ModelSizes& model, const TokenCounts& tokens) {
  Suggestion result{model.name, model.reason, {}};
  for (int64_t count : counts_of(model, tokens)) {
    spec::Dims dims = {{op.batch_dim, count * model.per_token}};
    for (const auto& [name, value] : model.dims.items()) dims.set(name, value);
    result.sizes.push_back(checked_size(op, dims));
  }
  return result;
}

}  // namespace

std::vector<int64_t> parse_counts(const std::string& text, const std::string& option) {
  std::vector<int64_t> result;
  for (size_t at = 0; at <= text.size();) {
    const size_t end = std::min(text.find(',', at), text.size());
    std::string_view item = std::string_view(text).substr(at, end - at);
    int64_t count = 0;
    const auto [stop, error] = std::from_chars(item.data(), item.data() + item.size(), count);
    if (error != std::errc() || stop != item.data() + item.size() || count < 1 ||
        count > kMostTokens)
      base::misuse("shapes", option + " holds '" + std::string(item.substr(0, 40)) +
                                 "': give integers from 1 to 2^31, as 1,2,4");
    if (std::find(result.begin(), result.end(), count) == result.end()) result.push_back(count);
    at = end + 1;
  }
  return result;
}

std::vector<Suggestion> suggest(const spec::Op& op, const spec::ModelConfig& config,
                                const TokenCounts& tokens) {
  if (!op.of_model)
    base::misuse("shapes", "op '" + op.name +
                               "' does not say how a model's config gives its sizes: give them "
                               "with --shapes");
  std::vector<Suggestion> result;
  for (const spec::ModelSizes& model : op.of_model(config))
    result.push_back(expand(op, model, tokens));
  return result;
}

}  // namespace mlx_kd::shapes
