#include "mlx_kd/search/replay/score.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "mlx_kd/base/error.h"
#include "mlx_kd/base/random.h"
#include "mlx_kd/search/replay/curves.h"

namespace mlx_kd::search {
namespace {

Recording recording_of(std::vector<double> values, std::vector<double> costs) {
  spec::Space space;
  space.knobs = {{"HIGH", {}}, {"LOW", {}}};
  const size_t low = values.size() <= 256 ? 1 : 100;
  for (size_t i = 0; i < values.size() / low; ++i)
    space.knobs[0].values.push_back(static_cast<int64_t>(i));
  for (size_t i = 0; i < low; ++i) space.knobs[1].values.push_back(static_cast<int64_t>(i));
  return {"test", Points::enumerate(space), std::move(values), std::move(costs)};
}

// Ten valid values 1, 4, 9 .. 100 (optimum 1, median 30.5) in a shuffled order, two failures.
Recording small_space() {
  return recording_of({64, 9, NAN, 100, 1, 36, 25, 81, NAN, 49, 4, 16},
                      {2, 1, 3, 2, 4, 1, 2, 2, 1, 3, 2, 1});
}

// The least falling step function above which the squared error cannot fall: for each place the
// least over left ends of the largest over right ends of the mean between them.
double min_max_fit(const std::vector<double>& y, size_t at) {
  double least = HUGE_VAL;
  for (size_t left = 0; left <= at; ++left) {
    double most = -HUGE_VAL;
    for (size_t right = at; right < y.size(); ++right) {
      const double sum = std::accumulate(y.begin() + static_cast<long>(left),
                                         y.begin() + static_cast<long>(right) + 1, 0.0);
      most = std::max(most, sum / static_cast<double>(right - left + 1));
    }
    least = std::min(least, most);
  }
  return least;
}

TEST(FallingFit, IsTheMinMaxFormula) {
  base::Random random(5);
  for (int round = 0; round < 20; ++round) {
    std::vector<double> y;
    std::vector<WeightedPoint> points;
    for (size_t i = 0; i < 25; ++i) {
      y.push_back(std::floor(20 * random.uniform()) - 0.3 * static_cast<double>(i));
      points.push_back({static_cast<double>(i), y.back(), 1});
    }
    const FallingFit fit(points);
    for (size_t i = 0; i < y.size(); ++i)
      EXPECT_NEAR(fit(static_cast<double>(i)), min_max_fit(y, i), 1e-9);
  }
}

TEST(FallingFit, CountsWeightsAsRepeats) {
  const FallingFit weighted({{0, 3, 2}, {1, 5, 1}, {2, 1, 3}});
  const FallingFit repeated({{0, 3, 1}, {0, 3, 1}, {1, 5, 1}, {2, 1, 1}, {2, 1, 1}, {2, 1, 1}});
  for (double x : {-1.0, 0.0, 0.5, 1.0, 1.7, 2.0, 9.0}) EXPECT_DOUBLE_EQ(weighted(x), repeated(x));
}

TEST(MonotoneCubic, PassesThroughItsPointsWithoutOvershooting) {
  const std::vector<double> x = {1, 2, 3, 5, 9, 10}, y = {10, 8, 8, 3, 2.5, 0};
  const MonotoneCubic curve(x, y);
  for (size_t i = 0; i < x.size(); ++i) EXPECT_DOUBLE_EQ(curve(x[i]), y[i]);
  for (double at = 1; at < 9.99; at += 0.01) EXPECT_LE(curve(at + 0.01), curve(at) + 1e-12);
  const MonotoneCubic line({0, 2}, {1, 5});
  EXPECT_DOUBLE_EQ(line(0.5), 2);
}

TEST(Scorer, HasNoScoreWhereTheBaselineIsAtTheOptimum) {
  const std::vector<double> values = {1.74, 1.84, 2.04, 1.42, 1.52, 1.72,
                                      1.42, 1.52, 1.72, 2.7,  2.8,  3.0};
  std::vector<double> costs;
  for (const double value : values) costs.push_back(11 + 7 * value);
  const Recording recording = recording_of(values, costs);
  const Scorer scorer(recording);
  EXPECT_EQ(scorer.too_few().find("too few points to score (12): the baseline is at the optimum"),
            0u)
      << scorer.too_few();
  EXPECT_TRUE(std::isnan(scorer.score({{0, 1, 2}})));
  for (const double sample : scorer.resampled({{0, 1, 2}}, 3, 1)) EXPECT_TRUE(std::isnan(sample));
}

// The rules once more, in the plainest way, for spaces whose baseline has at most two knots and
// walks of which each evaluates at the same times (then isotonic regression is the mean of the
// falling ranks).
double plain_score(const Recording& recording, const Scorer::Walks& walks) {
  std::vector<double> valid, costs = recording.costs;
  double valid_cost = 0, failed_cost = 0;
  for (size_t i = 0; i < recording.values.size(); ++i) {
    if (!std::isnan(recording.values[i])) valid.push_back(recording.values[i]);
    (std::isnan(recording.values[i]) ? failed_cost : valid_cost) += recording.costs[i];
  }
  std::sort(valid.begin(), valid.end());
  std::sort(costs.begin(), costs.end());
  const double n = static_cast<double>(valid.size()), all = static_cast<double>(costs.size());
  const double median = (valid[(valid.size() - 1) / 2] + valid[valid.size() / 2]) / 2;
  const double median_cost = (costs[(costs.size() - 1) / 2] + costs[costs.size() / 2]) / 2;
  const double mean_cost = valid_cost / n + failed_cost / all;  // mean times the failing share
  const auto evaluations = [&](double p) {
    const double target = valid[0] + (median - valid[0]) * (1 - p);
    double worse = 0;
    for (double v : valid) worse += v > target;
    if (valid[static_cast<size_t>(n - 1 - worse)] == valid[0]) --worse;
    return std::ceil(worse / (n + 1 - worse));
  };
  const double t0 = evaluations(0.01) * median_cost, t1 = evaluations(0.95) * median_cost;
  double sum = 0;
  const auto baseline = [&](double k) {
    return valid[static_cast<size_t>(n - 1 -
                                     std::min(n - 1, std::nearbyint(k * (n + 1) / (k + 1))))];
  };
  std::vector<double> ks;
  for (int i = 0; i < 1000; ++i)
    ks.push_back(std::nearbyint(std::max((t0 + (t1 - t0) * i / 999) / mean_cost, 1.0)));
  const MonotoneCubic base = [&] {
    std::vector<double> x, y;
    for (double k : ks)
      if (x.empty() || k > x.back()) {
        x.push_back(k);
        y.push_back(baseline(k));
      }
    return MonotoneCubic(x, y);
  }();
  for (int i = 0; i < 1000; ++i) {
    const double time = t0 + (t1 - t0) * i / 999;
    double rank = 0;  // mean over walks, between evaluations on the line from one to the next
    for (const auto& walk : walks) {
      double spent = 0, before = -1, best = HUGE_VAL, old = HUGE_VAL;
      double here = NAN;
      for (size_t point : walk) {
        spent += recording.costs[point];
        if (spent > 1.1 * t1) break;
        old = best;
        const double place = static_cast<double>(
            std::lower_bound(valid.begin(), valid.end(), recording.values[point]) - valid.begin());
        best = std::min(best, place);
        if (spent >= time && std::isnan(here))
          here = before < 0 ? best : old + (best - old) * (time - before) / (spent - before);
        before = spent;
      }
      rank += (std::isnan(here) ? best : here) / static_cast<double>(walks.size());
    }
    const double value = valid[static_cast<size_t>(std::nearbyint(rank))];
    const double reference = base(ks[0] + (ks[999] - ks[0]) * i / 999);
    sum += (value - reference) / (valid[0] - reference);
  }
  return sum / 1000;
}

TEST(Score, IsThatOfABruteForceComputation) {
  std::vector<double> values, costs(60, 2.0);
  base::Random random(3);
  for (size_t i = 0; i < costs.size(); ++i)
    values.push_back(1 + std::floor(500 * random.uniform()));
  const Recording recording = recording_of(values, costs);
  const Scorer scorer(recording);
  ASSERT_GE(scorer.random_evaluations(), 5u);
  for (uint64_t seed = 0; seed < 5; ++seed) {
    Scorer::Walks walks;
    for (uint64_t k = 0; k < 7; ++k)
      walks.push_back(replay(*make_strategy("random", recording.points, {}, 10 * seed + k),
                             recording, scorer.budget()));
    EXPECT_NEAR(scorer.score(walks), plain_score(recording, walks), 1e-9);
  }
}

TEST(Score, IsOneAtTheOptimumAndNeverMore) {
  const Recording recording = small_space();
  const Scorer scorer(recording);
  EXPECT_DOUBLE_EQ(scorer.score({{4}}), 1);
  base::Random random(1);
  for (int round = 0; round < 50; ++round) {
    std::vector<size_t> walk;
    for (int i = 0; i < 8; ++i) walk.push_back(random.below(12));
    EXPECT_LE(scorer.score({walk}), 1);
  }
}

TEST(Score, OfWalksThatFindNothingValidIsTheWorst) {
  const Recording recording = small_space();
  const Scorer scorer(recording);
  EXPECT_EQ(scorer.score({{2, 8}}), kNoScore);
  EXPECT_TRUE(scorer.curve({{2, 8}}).empty());
}

TEST(Score, OfRandomSearchIsAboutZero) {
  std::vector<double> values, costs;
  base::Random random(3);
  for (size_t i = 0; i < 3000; ++i) {
    const double x = random.uniform();
    values.push_back(random.below(10) == 0 ? NAN : 1 + 3 * std::pow(x, 0.5));
    costs.push_back(10 + random.uniform());
  }
  const Recording recording = recording_of(values, costs);
  const Scorer scorer(recording);
  ASSERT_GE(scorer.random_evaluations(), 100u);
  Scorer::Walks walks;
  for (uint64_t seed = 0; seed < 1000; ++seed)
    walks.push_back(
        replay(*make_strategy("random", recording.points, {}, seed), recording, scorer.budget()));
  EXPECT_NEAR(scorer.score(walks), 0, 0.15);
}

TEST(Score, ResamplesAroundTheScore) {
  const Recording recording = small_space();
  const Scorer scorer(recording);
  Scorer::Walks walks;
  for (uint64_t seed = 0; seed < 30; ++seed)
    walks.push_back(
        replay(*make_strategy("random", recording.points, {}, seed), recording, scorer.budget()));
  std::vector<double> samples = scorer.resampled(walks, 200, 1);
  EXPECT_EQ(samples, scorer.resampled(walks, 200, 1));
  std::sort(samples.begin(), samples.end());
  EXPECT_LT(samples.front(), scorer.score(walks));
  EXPECT_GT(samples.back(), scorer.score(walks));
}

TEST(Score, NeedsTwoDifferentTimes) {
  EXPECT_THROW(Scorer(recording_of({1, NAN}, {1, 1})), base::Error);
  EXPECT_THROW(Scorer(recording_of({NAN, NAN}, {1, 1})), base::Error);
  EXPECT_THROW(Scorer(recording_of({2, 2, 2}, {1, 1, 1})), base::Error);
  EXPECT_NO_THROW(Scorer(recording_of({2, 3}, {1, 1})));
}

TEST(Replay, SpendsTheBudgetAndNoMoreThanOneEvaluationBeyond) {
  const Recording recording = small_space();
  const std::vector<size_t> walk =
      replay(*make_strategy("exhaustive", recording.points, {}, 0), recording, 6);
  EXPECT_EQ(walk, (std::vector<size_t>{0, 1, 2}));  // costs 2, 1, 3
  EXPECT_EQ(replay(*make_strategy("random", recording.points, {}, 0), recording, 1e9).size(), 12u);
}

}  // namespace
}  // namespace mlx_kd::search
