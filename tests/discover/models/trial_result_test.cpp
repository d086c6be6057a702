#include "mlx_kd/discover/models/trial_result.h"

#include <gtest/gtest.h>

namespace mlx_kd::discover {
namespace {

using Names = std::set<std::string>;

Gain gain(double lo, double ratio, double hi) {
  return {ratio, lo, hi, 20};
}

PassTrial trial(const Gain& together, const std::map<std::string, Gain>& alone) {
  PassTrial result;
  for (const auto& [use, its] : alone) result.tried.insert(use);
  result.together = together;
  result.alone = alone;
  return result;
}

const std::map<std::string, Gain> kUses = {{"faster", gain(1.01, 1.02, 1.03)},
                                           {"alike", gain(0.99, 1.0, 1.01)},
                                           {"slower", gain(0.9, 0.95, 0.99)}};

TEST(TrialResult, AGainIsTheMedianOfTheRoundsRatios) {
  const Gain twice = gain_of({10, 30, 20, 50}, {20, 60, 40, 100});
  EXPECT_DOUBLE_EQ(twice.ratio, 2);
  EXPECT_DOUBLE_EQ(twice.lo, 2);
  EXPECT_EQ(twice.rounds, 4u);
  const Gain mixed = gain_of({10, 10, 10}, {9, 10, 12});
  EXPECT_DOUBLE_EQ(mixed.ratio, 1);
  EXPECT_LT(mixed.lo, 1);
  EXPECT_GT(mixed.hi, 1);
}

TEST(TrialResult, WhereAllTogetherAreFasterThoseStayThatAreNotSlowerAlone) {
  EXPECT_EQ(worth_keeping(trial(gain(1.01, 1.02, 1.03), kUses)), (Names{"alike", "faster"}));
}

TEST(TrialResult, WhereAllTogetherMayBeSlowerThoseStayThatAreSurelyFasterAlone) {
  EXPECT_EQ(worth_keeping(trial(gain(0.97, 1.0, 1.01), kUses)), Names{"faster"});
}

TEST(TrialResult, WhereEachWasNotTriedAllStayUnlessTheyAreSurelySlower) {
  PassTrial step;
  step.tried = {"a", "b"};
  step.together = gain(0.98, 0.99, 1.0);
  EXPECT_EQ(worth_keeping(step), step.tried);
  step.together = gain(0.97, 0.98, 0.99);
  EXPECT_EQ(worth_keeping(step), Names());
}

TEST(TrialResult, WhatIsNotMeasuredKeepsNothing) {
  PassTrial nothing;
  nothing.tried = {"a"};
  EXPECT_EQ(worth_keeping(nothing), Names());
}

TEST(TrialResult, ItsTextIsReadAsItWas) {
  ModelTrial made;
  made.winners = "abc";
  made.seconds = 4.5;
  made.of_budget_s = 600;
  made.passes = {trial(gain(0.97, 1.0, 1.01), kUses), PassTrial()};
  made.passes[0].kept = {"faster"};
  const base::Json json = trial_json(made);
  const ModelTrial read = trial_from(json);
  EXPECT_EQ(trial_json(read), json);
  EXPECT_EQ(read.kept(), (UsesByPass{{"faster"}, {}}));
  EXPECT_DOUBLE_EQ(read.passes[0].alone.at("slower").lo, 0.9);
  EXPECT_EQ(read.passes[1].together.rounds, 0u);
}

}  // namespace
}  // namespace mlx_kd::discover
