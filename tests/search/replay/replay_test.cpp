#include "mlx_kd/search/replay/replay.h"

#include <gtest/gtest.h>

#include <cmath>

namespace mlx_kd::search {
namespace {

Recording recording_of(const std::vector<double>& values) {
  spec::Space space;
  spec::Knob knob{"X", {}};
  for (size_t i = 0; i < values.size(); ++i) knob.values.push_back(static_cast<int64_t>(i));
  space.knobs = {knob};
  return {"test", Points::enumerate(space), values, std::vector<double>(values.size(), 1.0)};
}

TEST(ReplayOfEvaluations, CountsThemWhateverTheBatch) {
  const Recording recording = recording_of({5, 4, NAN, 3, 2, 6, 7, 8});
  for (size_t batch : {1, 3, 100}) {
    const auto strategy = make_strategy("exhaustive", recording.points, {}, 0);
    EXPECT_EQ(replay_evaluations(*strategy, recording, 5, batch),
              (std::vector<size_t>{0, 1, 2, 3, 4}));
  }
  const auto strategy = make_strategy("random", recording.points, {}, 0);
  EXPECT_EQ(replay_evaluations(*strategy, recording, 1000).size(), 8u) << "the space runs out";
}

TEST(Regret, IsHowMuchSlowerTheBestOfAWalkIs) {
  const Recording recording = recording_of({5, 4, NAN, 3, 2.5});
  EXPECT_DOUBLE_EQ(regret(recording, {0, 2}), 1);
  EXPECT_DOUBLE_EQ(regret(recording, {0, 3, 1}), 0.2);
  EXPECT_DOUBLE_EQ(regret(recording, {4}), 0);
}

TEST(Regret, OfAWalkThatFoundNothingValidIsInfinite) {
  const Recording recording = recording_of({5, 4, NAN, 3, 2.5});
  EXPECT_EQ(regret(recording, {2}), HUGE_VAL);
  EXPECT_EQ(regret(recording, {}), HUGE_VAL);
}

TEST(MeasuredOnce, ShowsOneOfThePassesOfEachPoint) {
  Recording recording = recording_of({5, 4, NAN, 3});
  recording.runs = {{4, 5, 6}, {}, {}, {2, 3, 9}};
  bool differ = false;
  for (uint64_t seed = 0; seed < 20; ++seed) {
    const Recording seen = measured_once(recording, seed);
    EXPECT_TRUE(seen.values[0] == 4 || seen.values[0] == 5 || seen.values[0] == 6);
    EXPECT_EQ(seen.values[1], 4) << "there are no single times";
    EXPECT_TRUE(std::isnan(seen.values[2]));
    EXPECT_EQ(seen.values[3], measured_once(recording, seed).values[3]) << "the same seed";
    differ = differ || seen.values[3] != measured_once(recording, seed + 1).values[3];
  }
  EXPECT_TRUE(differ);
}

TEST(RegretOfFinalists, IsThatOfTheTrulyBestAmongThoseThatLookedBest) {
  const Recording truth = recording_of({5, 4, NAN, 3, 2});
  const Recording seen = recording_of({1, 2, NAN, 3, 4});
  EXPECT_DOUBLE_EQ(regret_of_finalists(truth, seen, {4, 3, 2, 1, 0}, 1), 1.5) << "point 0 alone";
  EXPECT_DOUBLE_EQ(regret_of_finalists(truth, seen, {4, 3, 2, 1, 0}, 2), 1);
  EXPECT_DOUBLE_EQ(regret_of_finalists(truth, seen, {4, 3, 2, 1, 0}, 9), 0);
  EXPECT_EQ(regret_of_finalists(truth, seen, {2}, 2), HUGE_VAL);
}

}  // namespace
}  // namespace mlx_kd::search
