#include "mlx_kd/search/space/tours.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "mlx_kd/search/space/neighbors.h"

namespace mlx_kd::search {
namespace {

spec::Space space_of(std::vector<size_t> sizes) {
  spec::Space space;
  for (size_t i = 0; i < sizes.size(); ++i) {
    spec::Knob knob{"K" + std::to_string(i), {}, spec::KnobScale::log2};
    for (size_t v = 0; v < sizes[i]; ++v) knob.values.push_back(int64_t{1} << v);
    space.knobs.push_back(knob);
  }
  return space;
}

spec::Space constrained() {
  spec::Space space = space_of({6, 5, 4, 3, 2});
  space.knobs[3].scale = spec::KnobScale::choice;
  space.constraints.push_back(
      {"K0 * K1 <= 64", {"K0", "K1"}, [](const int64_t* v) { return v[0] * v[1] <= 64; }});
  space.constraints.push_back(
      {"K2 != K3", {"K2", "K3"}, [](const int64_t* v) { return v[0] != v[1]; }});
  return space;
}

void expect_laps(const Points& points, size_t count) {
  const Features features(points);
  Tours tours(features, count, 7);
  for (size_t tour = 0; tour < count; ++tour) {
    std::vector<int> short_visits(points.size()), long_visits(points.size());
    for (size_t i = 0; i < points.size(); ++i) {
      ++short_visits[tours.short_stop(tour, i)];
      ++long_visits[tours.long_stop(tour, i)];
    }
    const std::vector<int> once(points.size(), 1);
    EXPECT_EQ(short_visits, once);
    EXPECT_EQ(long_visits, once);
  }
}

TEST(Tours, VisitEveryValidPointOnce) {
  expect_laps(Points::enumerate(constrained()), 5);
  for (size_t size = 1; size < 40; ++size) expect_laps(Points::enumerate(space_of({size})), 4);
  expect_laps(Points::enumerate(space_of({1, 1})), 1);
}

TEST(Tours, OfAFullSpaceChangeOneKnobByOneStep) {
  const Points points = Points::enumerate(space_of({4, 3, 5}));
  const Features features(points);
  Tours tours(features, 3, 0);
  for (size_t tour = 0; tour < 3; ++tour)
    for (size_t i = 1; i < points.size(); ++i) {
      const size_t a = tours.short_stop(tour, i - 1), b = tours.short_stop(tour, i);
      const std::vector<uint32_t> adjacent = adjacent_neighbors(features, a);
      EXPECT_TRUE(std::binary_search(adjacent.begin(), adjacent.end(), b));
    }
}

TEST(Tours, LongHopsAreFarShortHopsNear) {
  const Points points = Points::enumerate(constrained());
  const Features features(points);
  Tours tours(features, 4, 3);
  double near = 0, far = 0;
  for (size_t i = 1; i < points.size(); ++i) {
    near += features.squared_distance(tours.short_stop(0, i - 1), tours.short_stop(0, i));
    far += features.squared_distance(tours.long_stop(0, i - 1), tours.long_stop(0, i));
  }
  EXPECT_LT(2 * near, far);
}

TEST(Neighbors, NearestAreThoseOfABruteForceSearch) {
  const Points points = Points::enumerate(constrained());
  const Features features(points);
  for (size_t point = 0; point < points.size(); point += 17) {
    std::vector<double> all;
    for (size_t other = 0; other < points.size(); ++other)
      if (other != point) all.push_back(features.squared_distance(point, other));
    std::sort(all.begin(), all.end());
    const std::vector<uint32_t> nearest = nearest_neighbors(features, point, 12);
    ASSERT_EQ(nearest.size(), 12u);
    for (size_t i = 0; i < nearest.size(); ++i)
      EXPECT_DOUBLE_EQ(features.squared_distance(point, nearest[i]), all[i]);
  }
}

TEST(Neighbors, HammingDifferInOneKnob) {
  const Points points = Points::enumerate(constrained());
  const Features features(points);
  for (size_t point = 0; point < points.size(); point += 13) {
    std::vector<uint32_t> expected;
    for (size_t other = 0; other < points.size(); ++other) {
      int differing = 0;
      for (size_t knob = 0; knob < points.knobs(); ++knob)
        differing += points.value_index(point, knob) != points.value_index(other, knob);
      if (differing == 1) expected.push_back(static_cast<uint32_t>(other));
    }
    EXPECT_EQ(hamming_neighbors(features, point), expected);
  }
}

TEST(Neighbors, OfTheOnlyPointAreNone) {
  const Points points = Points::enumerate(space_of({1, 1}));
  const Features features(points);
  Graph graph(features, 12);
  EXPECT_TRUE(graph.moves(0).empty());
}

TEST(Features, ScaleByTheValuesThatOccur) {
  spec::Space space = space_of({3, 2});
  space.knobs[0].values = {0, 4, 16};
  space.knobs[1].values = {7, 8};
  space.constraints.push_back({"K1 < 8", {"K1"}, [](const int64_t* v) { return v[0] < 8; }});
  const Points points = Points::enumerate(space);
  const Features features(points);
  ASSERT_EQ(features.dims(), 1u);  // K1 is constant
  EXPECT_DOUBLE_EQ(features.position(0, 0), 0);
  EXPECT_NEAR(features.position(0, 1), 1.0 / 3, 1e-12);  // 0 counts as 2
  EXPECT_DOUBLE_EQ(features.position(0, 2), 1);
}

TEST(Features, TellHowWellSizesAreAligned) {
  spec::Space space = space_of({6, 4});
  space.knobs[0].values = {16, 32, 48, 64, 80, 96};
  const Points points = Points::enumerate(space);
  const Features features(points);
  ASSERT_EQ(features.dims(), 2u);
  ASSERT_EQ(features.columns(), 3u);  // powers of two need none
  EXPECT_EQ(features.knob(2), 0u);
  const std::vector<double> expected = {0, 1, 0, 1, 0, 1};
  for (size_t level = 0; level < 6; ++level)
    EXPECT_DOUBLE_EQ(features.position(2, level), expected[level]);
  const size_t a = points.find(spec::Setting{{"K0", 48}, {"K1", 1}});
  const size_t b = points.find(spec::Setting{{"K0", 64}, {"K1", 1}});
  const double d = features.distance(0, features.level(a, 0), features.level(b, 0));
  EXPECT_DOUBLE_EQ(features.squared_distance(a, b), d * d);  // columns do not bend the graph
}

}  // namespace
}  // namespace mlx_kd::search
