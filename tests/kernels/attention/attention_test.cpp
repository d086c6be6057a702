// Sizes of attention: those of models, and those that it refuses.
#include <gtest/gtest.h>

#include "mlx_kd/base/error.h"
#include "tests/kernels/every_op.h"

namespace mlx_kd::kernels {
namespace {

spec::ModelConfig config(const char* text) {
  return {base::parse_json(text, "test", "config"), "a model"};
}

Texts sizes_of(const std::string& op, const char* text) {
  Texts sizes;
  for (const spec::ModelSizes& size : find_op(op).of_model(config(text)))
    sizes.push_back(size.name + ": " + size.dims.text());
  return sizes;
}

constexpr const char* kLlama =
    R"({"model_type": "llama", "hidden_size": 2048, "num_attention_heads": 32, "num_key_value_heads": 4})";

TEST(Attention, TakesTheHeadsOfAModel) {
  EXPECT_EQ(sizes_of("attention", kLlama),
            (Texts{"model: B=1,Hq=32,Hk=4,M=1,Dk=64,Dv=64,causal=0,window=0,has_mask=0,has_sinks=0,"
                   "has_bias=0",
                   "prompt: B=1,Hq=32,Hk=4,M=512,Dk=64,Dv=64,causal=1,window=0,has_mask=0,"
                   "has_sinks=0,has_bias=0"}));
  EXPECT_EQ(sizes_of("attention", R"({"model_type": "glm4_moe_lite", "num_attention_heads": 20,
                                      "kv_lora_rank": 512, "qk_rope_head_dim": 64})"),
            (Texts{"model: B=1,Hq=20,Hk=1,M=1,Dk=576,Dv=512,causal=0,window=0,has_mask=0,"
                   "has_sinks=0,has_bias=0"}));
}

TEST(Rotary, TakesTheHeadsOfAModelAndItsNorms) {
  EXPECT_EQ(sizes_of("qk_norm_rope", kLlama),
            (Texts{"model: B=1,Hq=32,Hk=4,D=64,dims=0,traditional=0,ragged=0,has_freqs=0,has_wq=0,"
                   "has_wk=0"}));
  EXPECT_EQ(
      sizes_of("qk_norm_rope",
               R"({"model_type": "qwen3", "num_attention_heads": 16, "head_dim": 128})"),
      (Texts{"model: B=1,Hq=16,Hk=16,D=128,dims=0,traditional=0,ragged=0,has_freqs=0,has_wq=1,"
             "has_wk=1"}));
  EXPECT_THROW(sizes_of("rope_standard", R"({"num_attention_heads": 16, "kv_lora_rank": 512})"),
               base::Error);
}

TEST(Attention, RefusesSizesThatMakeNoSense) {
  const spec::Op& op = find_op("attention");
  spec::Dims dims = op.suites.front().sizes.front();
  dims.set("Hk", 5);
  EXPECT_THROW(spec::complete(op, dims), base::Error);
  dims.set("Hk", 4);
  dims.set("Dv", 5000);
  EXPECT_THROW(spec::complete(op, dims), base::Error);
}

TEST(Rotary, CompletesTheTurnedPart) {
  const spec::Op& op = find_op("rope_standard");
  spec::Dims dims = op.suites.front().sizes.front();
  EXPECT_EQ(spec::complete(op, dims).at("dims"), 64);
  dims.set("dims", 31);
  EXPECT_THROW(spec::complete(op, dims), base::Error);
  dims.set("dims", 66);
  EXPECT_THROW(spec::complete(op, dims), base::Error);
}

}  // namespace
}  // namespace mlx_kd::kernels
