// Strategies that share a space: no point twice, all of them once, and each learns from the others.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "mlx_kd/search/strategy/strategy.h"

namespace mlx_kd::search {
namespace {

spec::Space shared_space() {
  spec::Space space;
  space.knobs = {{"A", {1, 2, 4, 8, 16}, spec::KnobScale::log2},
                 {"B", {1, 2, 4, 8}, spec::KnobScale::log2},
                 {"C", {0, 1, 2}, spec::KnobScale::choice},
                 {"D", {1, 2, 3, 4, 5}}};
  space.constraints.push_back(
      {"A * B <= 32", {"A", "B"}, [](const int64_t* v) { return v[0] * v[1] <= 32; }});
  return space;
}

Observation observed(const Points& points, size_t point) {
  const spec::Setting s = points.setting(point);
  const auto l = [&](const char* name) { return std::log2(static_cast<double>(s.at(name))); };
  return {point, s.at("A") == 16 && s.at("B") == 1,
          0.5 * std::abs(l("A") - 2) + 0.3 * std::abs(l("B") - 1) + 0.4 * std::abs(l("D") - 1) +
              0.2 * static_cast<double>(s.at("C") != 1)};
}

class Shares : public testing::TestWithParam<std::string> {
 protected:
  using Ranks = std::vector<std::unique_ptr<Strategy>>;
  Ranks ranks_of(size_t count) const {
    Ranks ranks;
    for (size_t rank = 0; rank < count; ++rank) {
      ranks.push_back(make_strategy(GetParam(), points_, {}, 3));
      ranks.back()->take_share(rank, count);
    }
    return ranks;
  }
  // What each proposed, in a round after which all know all.
  std::vector<std::vector<size_t>> round(Ranks& ranks, size_t batch) const {
    std::vector<std::vector<size_t>> proposed;
    for (auto& rank : ranks) proposed.push_back(rank->propose(batch));
    std::vector<Observation> all;
    for (const auto& of_rank : proposed)
      for (const size_t point : of_rank) all.push_back(observed(points_, point));
    for (auto& rank : ranks) rank->observe_all(all);
    return proposed;
  }
  Points points_ = Points::enumerate(shared_space());
};

TEST_P(Shares, CoverTheSpaceOnce) {
  for (const size_t count : {1u, 3u, 7u}) {
    Ranks ranks = ranks_of(count);
    std::multiset<size_t> seen;
    while (true) {
      const size_t before = seen.size();
      for (const auto& proposed : round(ranks, 4)) seen.insert(proposed.begin(), proposed.end());
      if (seen.size() == before) break;
    }
    EXPECT_EQ(seen.size(), points_.size());
    EXPECT_EQ(std::set<size_t>(seen.begin(), seen.end()).size(), points_.size());
  }
}

TEST_P(Shares, AreOfOneSizeAndSpread) {
  const size_t count = 4;
  std::vector<size_t> sizes;
  for (auto& rank : ranks_of(count)) {
    const std::vector<size_t> own = rank->propose(points_.size());
    sizes.push_back(own.size());
    std::set<int64_t> choices;
    for (const size_t point : own) choices.insert(points_.setting(point).at("C"));
    EXPECT_EQ(choices.size(), 3u);
  }
  EXPECT_LE(*std::max_element(sizes.begin(), sizes.end()),
            *std::min_element(sizes.begin(), sizes.end()) + 1);
}

TEST_P(Shares, MoreRanksThanPointsLeaveSomeWithNothing) {
  size_t proposed = 0;
  for (auto& rank : ranks_of(points_.size() + 10)) proposed += rank->propose(2).size();
  EXPECT_EQ(proposed, points_.size());
}

TEST_P(Shares, TheSameRoundsProposeTheSame) {
  Ranks one = ranks_of(3), other = ranks_of(3);
  for (int i = 0; i < 6; ++i) EXPECT_EQ(round(one, 3), round(other, 3));
}
INSTANTIATE_TEST_SUITE_P(OfStrategies, Shares, testing::ValuesIn(strategy_names()));

// What one rank finds is where the others look next.
TEST(SharedTours, FindTheBestSoonerThanARankAlone) {
  const Points points = Points::enumerate(shared_space());
  const auto best_after = [&](size_t count, int rounds) {
    double best = HUGE_VAL;
    std::vector<std::unique_ptr<Strategy>> ranks;
    for (size_t rank = 0; rank < count; ++rank) {
      ranks.push_back(make_strategy("tours", points, {}, 5));
      if (count > 1) ranks.back()->take_share(rank, count);
    }
    for (int i = 0; i < rounds; ++i) {
      std::vector<Observation> all;
      for (auto& rank : ranks)
        for (const size_t point : rank->propose(1)) all.push_back(observed(points, point));
      for (const Observation& one : all)
        if (!one.failed) best = std::min(best, one.value);
      for (auto& rank : ranks) rank->observe_all(all);
    }
    return best;
  };
  EXPECT_LT(best_after(8, 3), best_after(1, 3));
  EXPECT_EQ(best_after(8, 12), 0);
}

}  // namespace
}  // namespace mlx_kd::search
