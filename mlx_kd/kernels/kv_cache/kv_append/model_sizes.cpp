#include "mlx_kd/kernels/kv_cache/kv_append/model_sizes.h"

#include "mlx_kd/kernels/common/model_sizes.h"

namespace mlx_kd::kernels::kv_append {
namespace {

// S is 4096, twice and four times that: the counts of tokens multiply it.
constexpr int64_t kKeys = 4096;

spec::ModelSizes cache(const std::string& name, const std::string& reason, int64_t heads,
                       int64_t added, int64_t dk, int64_t dv) {
  return {name,
          reason + ", for caches of multiples of 4096 keys",
          {{"B", 1}, {"H", heads}, {"M", added}, {"Dk", dk}, {"Dv", dv}, {"ragged", 0}},
          kKeys,
          true};
}

}  // namespace

std::vector<spec::ModelSizes> model_sizes(const spec::ModelConfig& config) {
  const auto rank = config.integer("kv_lora_rank");
  if (rank && config.has("qk_rope_head_dim")) {
    const int64_t rope = *config.integer("qk_rope_head_dim");
    return {cache("model",
                  "kv_lora_rank + qk_rope_head_dim wide keys and kv_lora_rank wide values: one "
                  "latent head, a token at a time",
                  1, 1, *rank + rope, *rank),
            cache("prefill", "the same, 128 tokens at once", 1, 128, *rank + rope, *rank)};
  }
  const int64_t heads = attention_heads(config, "the heads of the cache");
  const int64_t keys = key_heads(config, heads), width = head_width(config, heads);
  return {cache("model", "num_key_value_heads heads of head_dim, a token at a time", keys, 1, width,
                width),
          cache("prefill", "num_key_value_heads heads of head_dim, 128 tokens at once", keys, 128,
                width, width)};
}

}  // namespace mlx_kd::kernels::kv_append
