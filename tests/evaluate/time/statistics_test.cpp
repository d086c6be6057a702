#include "mlx_kd/evaluate/time/statistics.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numbers>

#include "mlx_kd/base/random.h"

namespace mlx_kd::evaluate {
namespace {

double normal(base::Random& random) {
  return std::sqrt(-2 * std::log(1 - random.uniform())) *
         std::cos(2 * std::numbers::pi * random.uniform());
}

// Pairs as machines make them: mostly near each other, one in ten disturbed.
std::vector<double> noisy_pairs(base::Random& random, size_t count, double shift) {
  std::vector<double> result;
  for (size_t i = 0; i < count; ++i)
    result.push_back(shift + normal(random) * (random.uniform() < 0.1 ? 0.3 : 0.03));
  return result;
}

TEST(Statistics, PercentilesLieBetweenNeighboursAsNumpyPutsThem) {
  const std::vector<double> values = {4, 1, 3, 2};
  EXPECT_DOUBLE_EQ(percentile(values, 0), 1);
  EXPECT_DOUBLE_EQ(percentile(values, 1), 4);
  EXPECT_DOUBLE_EQ(percentile(values, 0.5), 2.5);
  EXPECT_DOUBLE_EQ(percentile(values, 0.9), 3.7);
  EXPECT_DOUBLE_EQ(median({5, 9, 1}), 5);
}

TEST(Statistics, NothingHasNoMedian) {
  EXPECT_TRUE(std::isnan(median({})));
  EXPECT_TRUE(std::isnan(bootstrap_median({}, 100, 1).lo));
}

TEST(Statistics, FewRatiosHaveTheirExtremesForAnInterval) {
  const auto few = few_ratios({std::log(3), std::log(8), std::log(5)}, 2);
  ASSERT_TRUE(few);
  EXPECT_NEAR(few->middle, 5, 1e-12);
  EXPECT_NEAR(few->lo, 3, 1e-12);
  EXPECT_NEAR(few->hi, 8, 1e-12);
}

TEST(Statistics, FewRatiosAreNotEnoughWhereOneIsLowOrNotANumber) {
  EXPECT_FALSE(few_ratios({}, 2));
  EXPECT_FALSE(few_ratios({std::log(30), std::log(1.9), std::log(30)}, 2));
  EXPECT_FALSE(few_ratios({std::log(30), std::nan("")}, 2));
}

// Numbers of scipy.stats.t.ppf(0.975, n - 1).
TEST(Statistics, ProcessesHaveTheIntervalsOfStudentsT) {
  const auto width = [](size_t count) {  // of t, in units of the standard deviation of the mean
    std::vector<double> values(count, 0);
    values[0] = 1, values[1] = -1;
    const double deviation = std::sqrt(2 / static_cast<double>(count - 1));
    const AcrossProcesses seen = across_processes(values);
    EXPECT_NEAR(std::log(seen.expect_hi) / std::log(seen.ratio.hi),
                std::sqrt(static_cast<double>(count) + 1), 1e-9);
    EXPECT_NEAR(seen.ratio.lo * seen.ratio.hi, 1, 1e-12);
    return std::log(seen.ratio.hi) / deviation * std::sqrt(static_cast<double>(count));
  };
  EXPECT_NEAR(width(2), 12.706, 1e-3);
  EXPECT_NEAR(width(7), 2.4469, 1e-3);
  EXPECT_NEAR(width(12), 2.2010, 1e-3);
  EXPECT_NEAR(width(21), 2.0860, 1e-3);
  EXPECT_NEAR(width(101), 1.9840, 1e-3);
}

// Processes differ among each other more than pairs within one do: both intervals hold all the
// same.
TEST(Statistics, ProcessesAreJudgedByHowTheyDiffer) {
  base::Random random(7);
  int claimed = 0, found = 0, expected = 0;
  constexpr int kTrials = 2000;
  for (int trial = 0; trial < kTrials; ++trial) {
    const auto process = [&](double shift) {
      return median(noisy_pairs(random, 21, shift + 0.04 * normal(random)));
    };
    const auto claim = [&](double shift) {
      std::vector<double> medians;
      for (int i = 0; i < 7; ++i) medians.push_back(process(shift));
      return across_processes(medians);
    };
    claimed += claim(0).ratio.lo > 1;
    const AcrossProcesses ten = claim(std::log(1.1));
    found += ten.ratio.lo > 1;
    const double next = std::exp(process(std::log(1.1)));
    expected += ten.expect_lo <= next && next <= ten.expect_hi;
  }
  EXPECT_LE(claimed, 0.05 * kTrials);
  EXPECT_GE(found, 0.90 * kTrials);
  EXPECT_GE(expected, 0.93 * kTrials);
}

TEST(Statistics, BootstrapOfEqualValuesIsAPoint) {
  const Interval interval = bootstrap_ratio(std::vector<double>(30, std::log(2.0)), 500, 1);
  EXPECT_DOUBLE_EQ(interval.lo, 2);
  EXPECT_DOUBLE_EQ(interval.middle, 2);
  EXPECT_DOUBLE_EQ(interval.hi, 2);
}

TEST(Statistics, SameSeedGivesTheSameInterval) {
  base::Random random(7);
  const auto values = noisy_pairs(random, 31, 0);
  const Interval a = bootstrap_median(values, 500, 3), b = bootstrap_median(values, 500, 3);
  EXPECT_EQ(a.lo, b.lo);
  EXPECT_EQ(a.hi, b.hi);
  EXPECT_LT(a.lo, a.middle);
  EXPECT_LT(a.middle, a.hi);
}

TEST(Statistics, OneDisturbedPairHardlyMovesTheMedian) {
  std::vector<double> values;
  for (int i = 0; i < 30; ++i) values.push_back(0.001 * i);
  const double before = median(values);
  values.back() = 50;
  EXPECT_NEAR(median(values), before, 0.002);
}

TEST(Statistics, EqualKernelsAreClaimedFasterInAtMostOneTrialOfTwenty) {
  base::Random random(11);
  int claims = 0;
  for (int trial = 0; trial < 2000; ++trial)
    claims += bootstrap_median(noisy_pairs(random, 61, 0), 400, random.next()).lo > 0;
  EXPECT_LE(claims, 100);
}

TEST(Statistics, FivePerCentAreFoundInNineTrialsOfTen) {
  base::Random random(12);
  int found = 0;
  for (int trial = 0; trial < 500; ++trial)
    found += bootstrap_median(noisy_pairs(random, 61, std::log(1.05)), 400, random.next()).lo > 0;
  EXPECT_GE(found, 450);
}

}  // namespace
}  // namespace mlx_kd::evaluate
