#include "mlx_kd/kernels/positions/rope/model_sizes.h"

#include "mlx_kd/base/error.h"
#include "mlx_kd/kernels/common/model_sizes.h"

namespace mlx_kd::kernels::rope {
namespace {

void need_latent_attention(const spec::ModelConfig& config) {
  std::vector<std::string> missing;
  for (const char* field : {"qk_nope_head_dim", "qk_rope_head_dim"})
    if (!config.has(field)) missing.push_back(field);
  if (!missing.empty())
    base::misuse("kernels", config.origin() + " lacks " + base::list_of(missing) +
                                ": the op 'rope' is the decode pack of latent attention (MLA "
                                "models such as DeepSeek, Kimi and GLM-4.7-Flash)");
}

}  // namespace

std::vector<spec::ModelSizes> model_sizes(const spec::ModelConfig& config) {
  need_latent_attention(config);
  const int64_t heads = attention_heads(config, "the heads of attention");
  const int64_t rope = *config.integer("qk_rope_head_dim");
  const auto form = [&](const char* name, const char* reason, int64_t nope) {
    return spec::ModelSizes{
        name, reason, {{"H_Q", heads}, {"D_NOPE", nope}, {"D_ROPE", rope}}, 1, true};
  };
  std::vector<spec::ModelSizes> result = {
      form("model", "the pack form, D_NOPE = qk_nope_head_dim: heads are expanded before the pack",
           *config.integer("qk_nope_head_dim"))};
  if (const auto rank = config.integer("kv_lora_rank"))
    result.push_back(form("latent",
                          "the latent form, D_NOPE = kv_lora_rank: queries are absorbed, and one "
                          "concatenated latent cache is kept",
                          *rank));
  return result;
}

}  // namespace mlx_kd::kernels::rope
