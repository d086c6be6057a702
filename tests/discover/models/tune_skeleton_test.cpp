#include "mlx_kd/discover/models/tune_skeleton.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "mlx_kd/base/error.h"
#include "mlx_kd/kernels/op_table.h"
#include "mlx_kd/shapes/sizes.h"

namespace mlx_kd::discover {
namespace {

constexpr spec::Dtype kType = spec::Dtype::bfloat16;
const PassSizes kSizes = {{1, 4}, 512};

ModelUses config_uses() {
  const base::Json config = {
      {"model_type", "llama"},     {"hidden_size", 2048},
      {"intermediate_size", 5632}, {"num_hidden_layers", 8},
      {"num_attention_heads", 32}, {"num_key_value_heads", 4},
      {"vocab_size", 32000},       {"quantization", {{"bits", 4}, {"group_size", 64}}}};
  return uses_of({config, "the config"}, kSizes);
}

shapes::LoggedSize logged(const std::string& op, const spec::Dims& dims, uint64_t count,
                          spec::Dtype dtype = kType) {
  return {op, dtype, shapes::checked_size(kernels::find_op(op), dims), count};
}

// All that the config tells, as its own calls: of one token, or of the prompt.
CalledSizes as_told(const ModelUses& uses) {
  CalledSizes called;
  for (const ModelUse& use : uses.uses) {
    spec::Dims dims;
    for (const std::string& name : use.op->dim_names()) dims.set(name, use.sizes.front().at(name));
    (use.prompt ? called.prompt : called.decode)
        .push_back(logged(use.op->name, dims, static_cast<uint64_t>(use.calls)));
  }
  return called;
}

const ModelUse* use_called(const ModelUses& uses, const std::string& name) {
  const auto at = std::find_if(uses.uses.begin(), uses.uses.end(),
                               [&](const ModelUse& use) { return use.name == name; });
  return at == uses.uses.end() ? nullptr : &*at;
}

bool mentions(const std::vector<std::string>& lines, const std::string& words) {
  return std::any_of(lines.begin(), lines.end(), [&](const std::string& line) {
    return line.find(words) != std::string::npos;
  });
}

shapes::LoggedSize experts(int64_t tokens, uint64_t count) {
  return logged("gather_qmatvec",
                {{"M", tokens},
                 {"A", 4},
                 {"E", 64},
                 {"N", 2048},
                 {"K", 1536},
                 {"bits", 4},
                 {"group", 64},
                 {"mode", 0},
                 {"per_pair", 1},
                 {"has_bias", 0}},
                count);
}

shapes::LoggedSize latent(int64_t queries, int64_t keys, uint64_t count) {
  return logged("attention",
                {{"S", keys},
                 {"B", 1},
                 {"Hq", 20},
                 {"Hk", 1},
                 {"M", queries},
                 {"Dk", 576},
                 {"Dv", 512},
                 {"causal", queries > 1},
                 {"window", 0},
                 {"has_mask", 0},
                 {"has_sinks", 0},
                 {"has_bias", 0}},
                count);
}

TEST(TuneSkeleton, WhatTheCodeCallsAsTheConfigTellsIsNoDifference) {
  ModelUses uses = config_uses();
  const size_t count = uses.uses.size();
  take_called(as_told(uses), kSizes, kType, uses);
  EXPECT_EQ(uses.uses.size(), count);
  EXPECT_TRUE(uses.differences.empty()) << uses.differences.front();
}

TEST(TuneSkeleton, HowOftenTheCodeCallsCounts) {
  ModelUses uses = config_uses();
  CalledSizes called = as_told(uses);
  for (shapes::LoggedSize& one : called.decode)
    if (one.op_name == "qmatvec_gate_up") one.count = 5;
  take_called(called, kSizes, kType, uses);
  EXPECT_EQ(use_called(uses, "qmatvec_gate_up.model")->calls, 5);
  EXPECT_EQ(uses.differences,
            (std::vector<std::string>{"qmatvec_gate_up.model: 5 calls by the model's code, and the "
                                      "config tells 8"}));
}

TEST(TuneSkeleton, LinesOfOnePlaceAreAddedUpWhateverTheLengthOfTheCache) {
  ModelUses uses = config_uses();
  CalledSizes called = as_told(uses);
  for (shapes::LoggedSize& one : called.decode)
    if (one.op_name == "attention") {
      one.count = 3;
      one.dims.set("S", 17);
      called.decode.push_back(one);
      called.decode.back().count = 5;
      called.decode.back().dims.set("S", 2);
      break;
    }
  take_called(called, kSizes, kType, uses);
  EXPECT_EQ(use_called(uses, "attention.model")->calls, 8);
  EXPECT_TRUE(uses.differences.empty()) << uses.differences.front();
}

TEST(TuneSkeleton, WhatTheCodeDoesNotCallIsLeftOut) {
  ModelUses uses = config_uses();
  CalledSizes called = as_told(uses);
  std::erase_if(called.prompt, [](const auto& one) { return one.op_name == "swiglu"; });
  ASSERT_TRUE(use_called(uses, "swiglu.model.prompt"));
  take_called(called, kSizes, kType, uses);
  EXPECT_FALSE(use_called(uses, "swiglu.model.prompt"));
  EXPECT_TRUE(mentions(uses.differences, "swiglu.model.prompt: the model's code does not call it"));
}

TEST(TuneSkeleton, ExpertsAreServedAtStepsAndPromptsOfAllLengths) {
  ModelUses uses = config_uses();
  CalledSizes called = as_told(uses);
  called.decode.push_back(experts(1, 46));
  called.prompt.push_back(experts(512, 46));
  take_called(called, kSizes, kType, uses);
  const ModelUse* step = use_called(uses, "gather_qmatvec.code");
  ASSERT_TRUE(step);
  EXPECT_EQ(step->calls, 46);
  EXPECT_EQ(step->sizes.at(1).at("M"), 4);
  EXPECT_EQ(step->ranges, (shapes::DimRanges{{"M", 1, 16}}));
  const ModelUse* prompt = use_called(uses, "gather_qmatvec.code.prompt");
  ASSERT_TRUE(prompt);
  EXPECT_EQ(prompt->sizes.front().at("M"), 512);
  EXPECT_EQ(prompt->ranges, (shapes::DimRanges{{"M", 17, 2049, {67, 268}}}));
  EXPECT_TRUE(
      mentions(uses.differences, "gather_qmatvec.code: 46 calls by the model's code of M=1"));
}

TEST(TuneSkeleton, LatentAttentionIsServedInCachesAndPromptsOfAllLengths) {
  ModelUses uses = config_uses();
  CalledSizes called = as_told(uses);
  called.decode.push_back(latent(1, 2, 47));
  called.prompt.push_back(latent(512, 512, 47));
  take_called(called, kSizes, kType, uses);
  const ModelUse* step = use_called(uses, "attention.code");
  ASSERT_TRUE(step);
  EXPECT_EQ(step->sizes.front().at("S"), 4096);
  EXPECT_EQ(step->ranges, (shapes::DimRanges{{"S", 1, 4096, {7, 64, 511}}}));
  const ModelUse* prompt = use_called(uses, "attention.code.prompt");
  ASSERT_TRUE(prompt);
  EXPECT_EQ(prompt->sizes.front().at("S"), 512);
  EXPECT_EQ(prompt->ranges, (shapes::DimRanges{{"S", 17, 2049, {512}}, {"M", 17, 2049, {512}}}));
  const ModelUse* few = use_called(uses, "attention.code.prompt.few");
  ASSERT_TRUE(few);
  EXPECT_EQ(few->calls, 0);
  EXPECT_EQ(few->sizes.front().at("M"), 16);
  EXPECT_EQ(few->sizes.front().at("S"), 512);
  EXPECT_EQ(few->ranges, (shapes::DimRanges{{"S", 2, 4096, {64}}, {"M", 2, 16}}));
}

TEST(TuneSkeleton, APromptWithABiasIsServedUpToItsOwnLength) {
  ModelUses uses = config_uses();
  CalledSizes called = as_told(uses);
  called.prompt.push_back(latent(512, 512, 47));
  called.prompt.back().dims.set("has_bias", 1);
  take_called(called, kSizes, kType, uses);
  const ModelUse* prompt = use_called(uses, "attention.code.prompt");
  ASSERT_TRUE(prompt);
  EXPECT_EQ(prompt->ranges, (shapes::DimRanges{{"S", 17, 512, {264}}, {"M", 17, 512, {264}}}));
}

TEST(TuneSkeleton, QueriesOfAnotherNumberThanThePromptHasAreAPlaceOfTheirOwn) {
  ModelUses uses = config_uses();
  CalledSizes called = as_told(uses);
  called.prompt.push_back(latent(512, 512, 46));
  called.prompt.push_back(latent(1, 512, 1));
  take_called(called, kSizes, kType, uses);
  EXPECT_EQ(use_called(uses, "attention.code.prompt")->calls, 46);
  const ModelUse* last = use_called(uses, "attention.code2.prompt");
  ASSERT_TRUE(last);
  EXPECT_EQ(last->calls, 1);
  EXPECT_TRUE(last->ranges.empty());
  EXPECT_FALSE(use_called(uses, "attention.code2.prompt.few"));
}

TEST(TuneSkeleton, TwoPlacesOfAnOperatorHaveNamesOfTheirOwn) {
  ModelUses uses = config_uses();
  CalledSizes called = as_told(uses);
  called.decode.push_back(experts(1, 2));
  called.decode.push_back(experts(1, 3));
  called.decode.back().dims.set("K", 1024);
  take_called(called, kSizes, kType, uses);
  EXPECT_EQ(use_called(uses, "gather_qmatvec.code")->sizes.front().at("K"), 1536);
  EXPECT_EQ(use_called(uses, "gather_qmatvec.code2")->sizes.front().at("K"), 1024);
}

TEST(TuneSkeleton, CallsInAnotherTypeAreMisuse) {
  ModelUses uses = config_uses();
  CalledSizes called;
  called.decode.push_back(logged("rmsnorm", {{"rows", 1}, {"D", 2048}}, 1, spec::Dtype::float32));
  try {
    take_called(called, kSizes, kType, uses);
    FAIL();
  } catch (const base::Error& error) {
    EXPECT_EQ(error.exit_code(), 2);
    EXPECT_NE(std::string(error.what()).find("in bfloat16: give the type of its weights"),
              std::string::npos)
        << error.what();
  }
}

TEST(TuneSkeleton, APythonThatIsNotThereIsNamed) {
  const CalledSizes called = run_skeleton("/none/python", base::Json::object(), kSizes, kType);
  EXPECT_EQ(called.why_not, "'/none/python' cannot be started");
  EXPECT_TRUE(called.decode.empty());
}

TEST(TuneSkeleton, WhatItSaysLastIsWhyItFailed) {
  const CalledSizes called = run_skeleton("false", base::Json::object(), kSizes, kType);
  EXPECT_EQ(called.why_not, "it ended without a word");
}

}  // namespace
}  // namespace mlx_kd::discover
