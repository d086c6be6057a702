#include "mlx_kd/search/strategy/strategy.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "mlx_kd/base/error.h"
#include "mlx_kd/base/random.h"

namespace mlx_kd::search {
namespace {

// A made-up kernel: vector width, unroll, rows a block, threads, two choices; some combinations
// fail.
spec::Space synthetic_space() {
  spec::Space space;
  space.knobs = {{"VEC", {1, 2, 4, 8, 16}, spec::KnobScale::log2},
                 {"UNROLL", {1, 2, 4, 8}, spec::KnobScale::log2},
                 {"ROWS", {1, 2, 4, 8, 16, 32}, spec::KnobScale::log2},
                 {"THREADS", {32, 64, 128, 256, 512}, spec::KnobScale::log2},
                 {"METHOD", {0, 1, 2}, spec::KnobScale::choice},
                 {"STREAM", {0, 1}}};
  space.constraints.push_back({"VEC * UNROLL <= 64", {"VEC", "UNROLL"}, [](const int64_t* v) {
                                 return v[0] * v[1] <= 64;
                               }});
  return space;
}

Observation measure(const Points& points, size_t point) {
  const spec::Setting s = points.setting(point);
  const auto l = [&](const char* name) { return std::log2(static_cast<double>(s.at(name))); };
  Observation seen{point};
  seen.failed = s.at("ROWS") * s.at("VEC") > 256;
  seen.value = 0.3 * std::abs(l("VEC") - 2) + 0.1 * std::pow(l("UNROLL") + l("VEC") - 4, 2) +
               0.2 * std::abs(l("THREADS") - 7) + 0.1 * std::abs(l("ROWS") - 3) +
               0.3 * static_cast<double>(s.at("METHOD") != 1) +
               0.2 * static_cast<double>(s.at("STREAM") == (s.at("ROWS") > 4));
  seen.value += 0.05 * base::Random(point).uniform();
  return seen;
}

std::vector<size_t> walk(const std::string& name, const Points& points, size_t budget,
                         uint64_t seed, size_t batch = 1, const StrategyOptions& options = {}) {
  const auto strategy = make_strategy(name, points, options, seed);
  std::vector<size_t> all;
  while (all.size() < budget) {
    const std::vector<size_t> proposed = strategy->propose(std::min(batch, budget - all.size()));
    if (proposed.empty()) break;
    for (size_t point : proposed) {
      strategy->observe(measure(points, point));
      all.push_back(point);
    }
  }
  return all;
}

double best_of(const Points& points, const std::vector<size_t>& walked) {
  double best = HUGE_VAL;
  for (size_t point : walked) {
    const Observation seen = measure(points, point);
    if (!seen.failed) best = std::min(best, seen.value);
  }
  return best;
}

double mean_best(const std::string& name, const Points& points, size_t budget, size_t batch,
                 const StrategyOptions& options = {}) {
  double sum = 0;
  for (uint64_t seed = 0; seed < 50; ++seed)
    sum += best_of(points, walk(name, points, budget, seed, batch, options));
  return sum / 50;
}

TEST(Tours, BeatRandomAtABudgetOf50) {
  const Points points = Points::enumerate(synthetic_space());
  const double tours = mean_best("tours", points, 50, 1),
               random = mean_best("random", points, 50, 1);
  EXPECT_LT(tours, 0.5 * random);
}

// 64 and 2 are the middle of both; 4, which 2 divides more often, is farther from it.
TEST(Tours, BeginInTheMiddleAndWhereSeveralAreAtAnyOfThem) {
  spec::Space space;
  space.knobs = {{"WIDTH", {}, spec::KnobScale::log2},
                 {"TILE", {1, 2, 3, 4}, spec::KnobScale::log2},
                 {"SHARED", {0, 1}}};
  for (int64_t width = 16; width <= 256; width += 16) space.knobs[0].values.push_back(width);
  const Points points = Points::enumerate(space);
  std::set<int64_t> shared;
  for (uint64_t seed = 0; seed < 20; ++seed) {
    const auto tours = make_strategy("tours", points, {}, seed);
    const spec::Setting first = points.setting(tours->propose(1).at(0));
    EXPECT_EQ(first.at("WIDTH"), 64);
    EXPECT_EQ(first.at("TILE"), 2);
    shared.insert(first.at("SHARED"));
  }
  EXPECT_EQ(shared.size(), 2u);
}

TEST(Tours, LoseLittleByBatchesOfFour) {
  const Points points = Points::enumerate(synthetic_space());
  EXPECT_LT(mean_best("tours", points, 48, 4), mean_best("tours", points, 48, 1) + 0.03);
}

TEST(Strategies, NeverProposeAPointTwiceAndReachThemAll) {
  spec::Space small = synthetic_space();
  small.knobs[3].values = {64};
  const Points fewer = Points::enumerate(small);
  for (const std::string& name : strategy_names()) {
    std::vector<size_t> walked = walk(name, fewer, fewer.size() + 10, 3, 7);
    EXPECT_EQ(walked.size(), fewer.size()) << name;
    std::sort(walked.begin(), walked.end());
    EXPECT_EQ(std::unique(walked.begin(), walked.end()), walked.end()) << name;
  }
}

TEST(Strategies, WalkTheSameWithTheSameSeedOnly) {
  const Points points = Points::enumerate(synthetic_space());
  for (const std::string& name : strategy_names()) {
    EXPECT_EQ(walk(name, points, 260, 5), walk(name, points, 260, 5)) << name;
    if (name != "exhaustive") {
      EXPECT_NE(walk(name, points, 60, 5), walk(name, points, 60, 6)) << name;
    }
  }
}

TEST(Strategies, ContinueAWalkFromItsRecordsAlone) {
  const Points points = Points::enumerate(synthetic_space());
  for (const std::string& name : strategy_names())
    for (size_t broken_at : {1, 5, 40, 230}) {
      const std::vector<size_t> whole = walk(name, points, broken_at + 20, 11);
      const auto resumed = make_strategy(name, points, {}, 11);
      std::vector<size_t> again(whole.begin(), whole.begin() + static_cast<long>(broken_at));
      for (size_t point : again) resumed->observe(measure(points, point));
      while (again.size() < whole.size()) {
        again.push_back(resumed->propose(1).at(0));
        resumed->observe(measure(points, again.back()));
      }
      EXPECT_EQ(again, whole) << name << " broken at " << broken_at;
    }
}

TEST(Strategies, TakeASpaceOfOnePoint) {
  spec::Space space;
  space.knobs = {{"ONLY", {8}}};
  const Points points = Points::enumerate(space);
  for (const std::string& name : strategy_names()) {
    const auto strategy = make_strategy(name, points, {}, 0);
    EXPECT_EQ(strategy->propose(4), std::vector<size_t>{0}) << name;
    strategy->observe({0, false, 1.0});
    EXPECT_TRUE(strategy->propose(1).empty()) << name;
  }
}

TEST(Strategies, GoOnWhenEverythingFails) {
  spec::Space space = synthetic_space();
  space.knobs[3].values = {64};
  const Points points = Points::enumerate(space);
  for (const std::string& name : strategy_names()) {
    const auto strategy = make_strategy(name, points, {}, 1);
    for (size_t i = 0; i < points.size(); ++i) {
      const std::vector<size_t> proposed = strategy->propose(1);
      ASSERT_EQ(proposed.size(), 1u) << name;
      strategy->observe({proposed[0], true});
    }
    EXPECT_TRUE(strategy->propose(1).empty()) << name;
  }
}

TEST(Strategies, TakeEqualAndNonFiniteValues) {
  const Points points = Points::enumerate(synthetic_space());
  for (const std::string& name : strategy_names()) {
    const auto strategy = make_strategy(name, points, {}, 1);
    for (size_t i = 0; i < 300; ++i) {
      const size_t point = strategy->propose(1).at(0);
      strategy->observe({point, false, i % 5 == 4 ? NAN : i % 7 == 6 ? -HUGE_VAL : 2.5});
    }
  }
}

TEST(Strategies, ObserveWhatTheyNeverProposed) {
  const Points points = Points::enumerate(synthetic_space());
  for (const std::string& name : strategy_names()) {
    const auto strategy = make_strategy(name, points, {}, 1);
    for (size_t point = 0; point < 30; ++point) strategy->observe(measure(points, point));
    for (size_t point : strategy->propose(20)) EXPECT_GE(point, 30u) << name;
    EXPECT_THROW(strategy->observe({points.size(), false, 1}), base::Error);
  }
}

TEST(Options, EachChangesTheWalkOfTours) {
  const Points points = Points::enumerate(synthetic_space());
  const std::vector<size_t> own = walk("tours", points, 60, 2);
  StrategyOptions options;
  options.neighbors = 2;
  EXPECT_NE(walk("tours", points, 60, 2, 1, options), own);
  options = {};
  options.knn = 0;
  EXPECT_NE(walk("tours", points, 60, 2, 1, options), own);
  options = {};
  options.tours = 1;
  EXPECT_NE(walk("tours", points, 60, 2, 1, options), own);
  options = {};
  options.exploit_fraction = 1;
  EXPECT_NE(walk("tours", points, 60, 2, 1, options), own);
  options = {};
  options.novelty_fraction = 1;
  EXPECT_NE(walk("tours", points, 60, 2, 1, options), own);
  options = {};
  options.min_tour_gap = 20;
  EXPECT_NE(walk("tours", points, 60, 2, 1, options), own);
}

TEST(Options, OfTheFirstVersionStillBeatRandom) {
  const Points points = Points::enumerate(synthetic_space());
  StrategyOptions options;
  options.neighbors = 4;
  options.knn = 8;
  options.tours = 3;
  options.exploit_fraction = 0.25;
  options.novelty_fraction = 0.25;
  options.min_tour_gap = 3;
  EXPECT_LT(mean_best("tours", points, 50, 8, options), mean_best("random", points, 50, 8));
}

void expect_refused(const std::string& name, const StrategyOptions& options,
                    const std::string& word) {
  const Points points = Points::enumerate(synthetic_space());
  try {
    make_strategy(name, points, options, 0);
    ADD_FAILURE() << "took " << word;
  } catch (const base::Error& error) {
    EXPECT_EQ(error.exit_code(), 2);
    EXPECT_NE(std::string(error.what()).find(word), std::string::npos) << error.what();
  }
}

TEST(Options, OutOfRangeAreMisuse) {
  expect_refused("tours", {.neighbors = -1}, "--neighbors");
  expect_refused("tours", {.knn = -1}, "--knn");
  expect_refused("tours", {.tours = 0}, "--tours");
  expect_refused("tours", {.exploit_fraction = 1.5}, "--exploit-fraction");
  expect_refused("tours", {.novelty_fraction = NAN}, "--novelty-fraction");
  expect_refused("tours", {.exploit_fraction = 0.6, .novelty_fraction = 0.6}, "sum");
  expect_refused("tours", {.min_tour_gap = -2}, "--min-tour-gap");
  expect_refused("random", {.knn = 4}, "--knn");
  expect_refused("climbing", {}, "'tours', 'random', 'exhaustive', 'annealing' or 'genetic'");
}

std::vector<Observation> everything(const Points& points, double offset) {
  std::vector<Observation> run;
  for (size_t point = 0; point < points.size(); ++point) {
    run.push_back(measure(points, point));
    run.back().value += offset + 0.2 * base::Random(point + 99).uniform();
  }
  return run;
}

double best_after(const Points& points, const std::vector<Observation>& prior, size_t budget,
                  uint64_t seed) {
  const auto strategy = make_strategy("tours", points, {}, seed);
  strategy->add_prior(prior);
  std::vector<size_t> walked;
  while (walked.size() < budget) {
    walked.push_back(strategy->propose(1).at(0));
    strategy->observe(measure(points, walked.back()));
  }
  return best_of(points, walked);
}

TEST(WarmStart, BeginsWhereANeighbourWasGood) {
  const Points points = Points::enumerate(synthetic_space());
  const double cold = best_of(points, walk("tours", points, 8, 1));
  EXPECT_LT(best_after(points, everything(points, 3), 8, 1), 0.7 * cold);
}

TEST(WarmStart, ThatMisleadsIsDoubted) {
  const Points points = Points::enumerate(synthetic_space());
  std::vector<Observation> wrong = everything(points, 0);
  for (Observation& seen : wrong) seen.value = -seen.value;
  double misled = 0;
  for (uint64_t seed = 0; seed < 10; ++seed) misled += best_after(points, wrong, 100, seed) / 10;
  EXPECT_LT(misled, mean_best("random", points, 100, 1));
}

TEST(WarmStart, IsRefusedByOtherStrategies) {
  const Points points = Points::enumerate(synthetic_space());
  for (const std::string& name : strategy_names()) {
    if (name == "tours") continue;
    EXPECT_THROW(make_strategy(name, points, {}, 0)->add_prior({}), base::Error) << name;
  }
}

TEST(Tours, ExpectSmallerGainsAsTheSearchGoesOn) {
  const Points points = Points::enumerate(synthetic_space());
  const auto strategy = make_strategy("tours", points, {.novelty_fraction = 0}, 4);
  std::vector<double> gains;
  for (size_t i = 0; i < 120; ++i) {
    const size_t point = strategy->propose(1).at(0);
    EXPECT_EQ(strategy->expected_gain().has_value(), i >= 2);
    gains.push_back(strategy->expected_gain().value_or(0));
    strategy->observe(measure(points, point));
  }
  EXPECT_GT(gains[4], 0.01);
  EXPECT_LT(gains[119], 0.1 * gains[4]);
}

// Evaluations until the gain that going on promises falls below `gain`, and the best by then.
std::pair<size_t, double> stop_below(double gain, const Points& points, uint64_t seed) {
  const auto strategy = make_strategy("tours", points, {}, seed);
  double best = HUGE_VAL;
  for (size_t done = 0;; ++done) {
    const std::vector<size_t> proposed = strategy->propose(1);
    if (proposed.empty() || strategy->expected_gain().value_or(gain) < gain) return {done, best};
    const Observation seen = measure(points, proposed[0]);
    if (!seen.failed) best = std::min(best, seen.value);
    strategy->observe(seen);
  }
}

TEST(Tours, PromiseMoreThanIsLeftBeforeTheyMayBeStopped) {
  const Points points = Points::enumerate(synthetic_space());
  std::vector<size_t> all(points.size());
  for (size_t i = 0; i < all.size(); ++i) all[i] = i;
  const double optimum = best_of(points, all);
  for (double gain : {0.02, 0.1}) {
    size_t kept = 0, evaluations = 0;
    for (uint64_t seed = 0; seed < 50; ++seed) {
      const auto [done, best] = stop_below(gain, points, seed);
      kept += best - optimum <= gain;
      evaluations += done;
    }
    EXPECT_GE(kept, 45u) << gain;
    EXPECT_LT(evaluations / 50, points.size() / 4) << gain << ": a limit that never ends a search";
  }
}

}  // namespace
}  // namespace mlx_kd::search
