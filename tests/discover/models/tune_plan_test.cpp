#include "mlx_kd/discover/models/tune_plan.h"

#include <gtest/gtest.h>

#include "mlx_kd/base/error.h"

namespace mlx_kd::discover {
namespace {

base::Json tiny_config() {
  return {{"model_type", "llama"},
          {"hidden_size", 2048},
          {"intermediate_size", 5632},
          {"num_hidden_layers", 8},
          {"num_attention_heads", 32},
          {"num_key_value_heads", 4},
          {"head_dim", 64},
          {"vocab_size", 32000},
          {"torch_dtype", "float16"},
          {"quantization", {{"bits", 4}}}};
}

spec::ModelConfig model(const base::Json& changes = base::Json::object()) {
  base::Json config = tiny_config();
  config.merge_patch(changes);
  return {config, "the config"};
}

const ModelUse* find(const ModelUses& found, const std::string& name) {
  for (const ModelUse& use : found.uses)
    if (use.name == name) return &use;
  return nullptr;
}

TEST(TunePlan, APromptIsServedFromTheMostRowsOfAStepToFourTimesItsLength) {
  const ModelUses found = uses_of(model(), {{1}, 512});
  const ModelUse* down = find(found, "qgemm.model.prompt");
  ASSERT_TRUE(down);
  EXPECT_EQ(down->sizes.front().at("M"), 512);
  EXPECT_EQ(down->ranges, (shapes::DimRanges{{"M", 17, 2049, {67, 268}}}));
  const ModelUse* norm = find(found, "rmsnorm.model.prompt");
  ASSERT_TRUE(norm);
  EXPECT_EQ(norm->sizes.front().at("rows"), 512);
  EXPECT_EQ(norm->ranges, (shapes::DimRanges{{"rows", 17, 2049, {67, 268}}}));
}

TEST(TunePlan, AShortPromptIsSampledAsRangesAre) {
  const ModelUses found = uses_of(model(), {{1}, 32});
  const ModelUse* down = find(found, "qgemm.model.prompt");
  ASSERT_TRUE(down);
  EXPECT_EQ(down->ranges, (shapes::DimRanges{{"M", 17, 129}}));
}

TEST(TunePlan, WithoutAPromptNothingOfOneIsTuned) {
  for (const ModelUse& use : uses_of(model(), {{1, 4}, 0}).uses) {
    EXPECT_FALSE(use.prompt) << use.name;
    EXPECT_GT(use.calls, 0) << use.name;
  }
}

TEST(TunePlan, ACacheHasItsOwnLengthsWhateverTheRows) {
  const ModelUses found = uses_of(model(), {{1, 2, 4, 8}, 0});
  const ModelUse* cached = nullptr;
  for (const ModelUse& use : found.uses)
    if (use.op->batch_dim == "S") cached = &use;
  ASSERT_TRUE(cached);
  EXPECT_EQ(cached->calls, 8);
  EXPECT_EQ(cached->sizes.front().at("S"), 4096);
  EXPECT_EQ(cached->ranges, (shapes::DimRanges{{"S", 1, 4096, {7, 64, 511}}}));
}

TEST(TunePlan, LayersOfOtherKindsAreNotCounted) {
  const ModelUses found = uses_of(model({{"layer_types",
                                          {"conv", "full_attention", "conv", "conv", "conv",
                                           "full_attention", "conv", "conv"}}}),
                                  {{1}, 0});
  EXPECT_EQ(find(found, "qmatvec_qkv.model")->calls, 2);
  EXPECT_EQ(find(found, "qmatvec_gate_up.model")->calls, 8);
}

TEST(TunePlan, AMissingFieldIsNamed) {
  for (const char* field :
       {"hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"})
    try {
      uses_of(model({{field, nullptr}}), {});
      ADD_FAILURE() << field;
    } catch (const base::Error& error) {
      EXPECT_EQ(error.exit_code(), 2);
      EXPECT_NE(std::string(error.what()).find("'" + std::string(field) + "'"), std::string::npos)
          << error.what();
    }
}

TEST(TunePlan, TheTypeIsTheOneThatTheConfigStates) {
  EXPECT_EQ(float_type_of(model()), spec::Dtype::float16);
  EXPECT_EQ(float_type_of(model({{"dtype", "float32"}})), spec::Dtype::float32);
  EXPECT_EQ(float_type_of(model({{"torch_dtype", nullptr}})), spec::Dtype::bfloat16);
  EXPECT_EQ(float_type_of(model({{"torch_dtype", "int8"}})), spec::Dtype::bfloat16);
}

}  // namespace
}  // namespace mlx_kd::discover
