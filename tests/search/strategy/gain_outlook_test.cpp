#include "mlx_kd/search/strategy/gain_outlook.h"

#include <gtest/gtest.h>

#include <cmath>

#include "mlx_kd/search/space/fixed_math.h"

namespace mlx_kd::search {
namespace {

TEST(NormalBelow, IsTheNormalDistribution) {
  for (double z = -8; z <= 8; z += 0.25)
    EXPECT_NEAR(normal_below(z), 0.5 * std::erfc(-z / std::sqrt(2.0)), 2e-7) << z;
  EXPECT_NEAR(normal_below(-6) / (0.5 * std::erfc(6 / std::sqrt(2.0))), 1, 1e-6);
}

// One candidate: its value lies 1.6449 standard deviations below the mean once in twenty.
TEST(GainOutlook, OfOneCandidateIsItsFifthPercentile) {
  GainOutlook outlook;
  EXPECT_NEAR(outlook.look(0, {{0.5, 1}}), 1.6449 - 0.5, 0.01);
}

TEST(GainOutlook, GrowsWithTheCandidates) {
  GainOutlook one, ten;
  const std::vector<Prediction> many(10, {0.5, 1});
  EXPECT_GT(ten.look(0, many), one.look(0, {{0.5, 1}}) + 0.5);
}

TEST(GainOutlook, IsNothingWhereNoCandidateCanBeBetter) {
  GainOutlook outlook;
  EXPECT_EQ(outlook.look(0, {{1, 0.1}, {2, 0.2}}), 0);
  EXPECT_EQ(outlook.look(0, {}), 0);
}

TEST(GainOutlook, WidensWhatProvedTooSureAndNarrowsNothing) {
  GainOutlook sure, right, shy;
  for (int i = 0; i < 50; ++i) {
    sure.saw(0.3, {0, 0.1});
    right.saw(i % 2 ? 0.1 : -0.1, {0, 0.1});
    shy.saw(0.001, {0, 0.1});
  }
  const std::vector<Prediction> candidates = {{0.05, 0.1}};
  const double usual = right.look(0, candidates);
  EXPECT_NEAR(usual, 0.16449 - 0.05, 0.001);
  EXPECT_NEAR(sure.look(0, candidates), 0.49346 - 0.05, 0.01);
  EXPECT_NEAR(shy.look(0, candidates), usual, 1e-9);
}

TEST(GainOutlook, RemembersTheMostHopefulOfTheLast48Looks) {
  GainOutlook outlook;
  const double hopeful = outlook.look(0, {{0, 1}});
  for (int i = 0; i < 47; ++i) EXPECT_EQ(outlook.look(0, {{9, 0.1}}), hopeful);
  EXPECT_EQ(outlook.look(0, {{9, 0.1}}), 0);
}

TEST(GainOutlook, IsNoLessThanTheSecondHalfOfTheWalkGained) {
  GainOutlook outlook;
  for (double best : {3.0, 2.0, 2.0, 1.5}) outlook.best_is(best);
  EXPECT_EQ(outlook.look(1.5, {{9, 0.1}}), 0.5);
  GainOutlook failed;
  for (double best : {HUGE_VAL, HUGE_VAL, HUGE_VAL, 1.5}) failed.best_is(best);
  EXPECT_EQ(failed.look(1.5, {}), HUGE_VAL);
}

}  // namespace
}  // namespace mlx_kd::search
