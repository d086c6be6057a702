#include "mlx_kd/kernels/attention/attention/model_sizes.h"

#include "mlx_kd/kernels/common/model_sizes.h"

namespace mlx_kd::kernels::attention {
namespace {

constexpr int64_t kKeys = 4096;       // of a decoding step; the counts of tokens multiply it
constexpr int64_t kPromptKeys = 512;  // of a prompt

struct ModelHeads {
  int64_t q, k, dk, dv, sinks;
};

spec::ModelSizes model_size(const std::string& name, const std::string& reason,
                            const ModelHeads& heads, int64_t t, int64_t s) {
  return {name,
          reason,
          {{"B", 1},
           {"Hq", heads.q},
           {"Hk", heads.k},
           {"M", t},
           {"Dk", heads.dk},
           {"Dv", heads.dv},
           {"causal", t > 1},
           {"window", 0},
           {"has_mask", 0},
           {"has_sinks", heads.sinks},
           {"has_bias", 0}},
          s,
          true};
}

// A patched model decodes by this op; its prompts take MLX's.
spec::ModelSizes called(spec::ModelSizes size, const spec::ModelConfig& config) {
  size.calls.decode = attention_layers(config);
  size.lengths = {64, 512, kKeys};
  return size;
}

}  // namespace

std::vector<spec::ModelSizes> model_sizes(const spec::ModelConfig& config) {
  const int64_t heads = attention_heads(config, "the heads of attention");
  const auto rank = config.integer("kv_lora_rank");
  if (rank && config.has("qk_rope_head_dim")) {
    const ModelHeads latent = {heads, 1, *rank + *config.integer("qk_rope_head_dim"), *rank, 0};
    return {model_size("model",
                       "num_attention_heads queries over one latent head of kv_lora_rank + "
                       "qk_rope_head_dim, for caches of multiples of 4096 keys",
                       latent, 1, kKeys)};
  }
  const int64_t width = head_width(config, heads);
  const ModelHeads all = {heads, key_heads(config, heads), width, width, config.is_type("gpt_oss")};
  return {
      called(model_size("model",
                        "num_attention_heads over num_key_value_heads of head_dim, a token at a "
                        "time, for caches of multiples of 4096 keys",
                        all, 1, kKeys),
             config),
      model_size("prompt", "the same heads, 512 tokens at once, for multiples of 512 keys", all,
                 512, kPromptKeys)};
}

}  // namespace mlx_kd::kernels::attention
