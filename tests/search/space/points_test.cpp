#include "mlx_kd/search/space/points.h"

#include <gtest/gtest.h>

#include <set>

#include "mlx_kd/base/error.h"

namespace mlx_kd::search {
namespace {

spec::Knob knob(const std::string& name, int64_t count) {
  spec::Knob knob{name, {}};
  for (int64_t i = 0; i < count; ++i) knob.values.push_back(i + 1);
  return knob;
}

spec::Space cube(size_t knobs, int64_t values) {
  spec::Space space;
  for (size_t i = 0; i < knobs; ++i) space.knobs.push_back(knob("K" + std::to_string(i), values));
  return space;
}

std::string message_of(const spec::Space& space) {
  try {
    Points::enumerate(space);
  } catch (const base::Error& error) {
    EXPECT_EQ(error.exit_code(), 2);
    return error.what();
  }
  return "";
}

TEST(Points, AreAllValidSettingsInMixedRadixOrder) {
  spec::Space space = cube(3, 4);
  space.constraints.push_back(
      {"K0 * K2 <= 6", {"K2", "K0"}, [](const int64_t* v) { return v[0] * v[1] <= 6; }});
  const Points points = Points::enumerate(space);
  size_t expected = 0;
  for (int64_t a = 1; a <= 4; ++a)
    for (int64_t b = 1; b <= 4; ++b)
      for (int64_t c = 1; c <= 4; ++c) {
        const spec::Setting setting = {{"K0", a}, {"K1", b}, {"K2", c}};
        if (!spec::is_valid(space, setting)) {
          EXPECT_EQ(points.find(setting), points.size());
          continue;
        }
        EXPECT_EQ(points.setting(expected), setting);
        EXPECT_EQ(points.find(setting), expected);
        ++expected;
      }
  EXPECT_EQ(points.size(), expected);
  EXPECT_FALSE(points.sampled());
  EXPECT_EQ(points.raw_size(), 64);
}

TEST(Points, CanBeOne) {
  EXPECT_EQ(Points::enumerate(cube(3, 1)).size(), 1u);
  EXPECT_EQ(Points::enumerate(spec::Space{}).size(), 1u);
}

TEST(Points, FindKnowsNoForeignSetting) {
  const Points points = Points::enumerate(cube(2, 3));
  EXPECT_EQ(points.find(spec::Setting{{"K0", 1}}), points.size());
  EXPECT_EQ(points.find(spec::Setting{{"K0", 1}, {"K9", 1}}), points.size());
  EXPECT_EQ(points.find(spec::Setting{{"K0", 1}, {"K1", 9}}), points.size());
  EXPECT_EQ(points.find(Points::Indices{0}), points.size());
}

TEST(Points, NothingValidNamesTheConstraintThatRemovesTheMost) {
  spec::Space space = cube(3, 4);
  space.constraints.push_back({"K0 < 2", {"K0"}, [](const int64_t* v) { return v[0] < 2; }});
  space.constraints.push_back({"K1 < 1", {"K1"}, [](const int64_t* v) { return v[0] < 1; }});
  EXPECT_NE(message_of(space).find("constraint 'K0 < 2'"), std::string::npos);
  space.constraints.erase(space.constraints.begin());
  EXPECT_NE(message_of(space).find("constraint 'K1 < 1'"), std::string::npos);
}

TEST(Points, NothingValidIsSaidOfHugeSpacesToo) {
  spec::Space space = cube(12, 10);
  space.constraints.push_back({"K11 > 10", {"K11"}, [](const int64_t* v) { return v[0] > 10; }});
  EXPECT_NE(message_of(space).find("constraint 'K11 > 10'"), std::string::npos);
}

TEST(Points, UnsoundSpacesAreMisuse) {
  spec::Space space = cube(2, 2);
  space.constraints.push_back({"X is small", {"X"}, [](const int64_t*) { return true; }});
  EXPECT_NE(message_of(space).find("'X'"), std::string::npos);
  space = cube(2, 2);
  space.constraints.push_back({"about nothing", {}, [](const int64_t*) { return true; }});
  EXPECT_NE(message_of(space).find("about nothing"), std::string::npos);
  space = cube(2, 2);
  space.knobs[1].values.clear();
  EXPECT_NE(message_of(space).find("'K1' has no value"), std::string::npos);
  EXPECT_NE(message_of(cube(17, 2)).find("17 knobs"), std::string::npos);
  EXPECT_NE(message_of(cube(1, 257)).find("257 values"), std::string::npos);
}

TEST(Points, MoreThanTheMostAreSampledWithoutBias) {
  spec::Space space = cube(2, 20);
  space.constraints.push_back(
      {"K1 <= K0", {"K0", "K1"}, [](const int64_t* v) { return v[1] <= v[0]; }});
  std::vector<int> hits(210);
  const Points all = Points::enumerate(space);
  ASSERT_EQ(all.size(), 210u);
  for (uint64_t seed = 0; seed < 2000; ++seed) {
    const Points some = Points::enumerate(space, {21, seed});
    ASSERT_TRUE(some.sampled());
    ASSERT_EQ(some.size(), 21u);
    for (size_t i = 0; i < some.size(); ++i) ++hits[all.find(some.setting(i))];
  }
  double chi2 = 0;  // 209 degrees of freedom, variance 0.9 of the binomial's: 6 sigma is below 330
  for (int h : hits) chi2 += (h - 200.0) * (h - 200.0) / 180.0;
  EXPECT_LT(chi2, 330);
}

TEST(Points, ASpaceOf1e12RawPointsIsSampled) {
  spec::Space space = cube(12, 10);
  space.constraints.push_back(
      {"K0 + K1 == 11", {"K0", "K1"}, [](const int64_t* v) { return v[0] + v[1] == 11; }});
  space.constraints.push_back(
      {"K2 < K3", {"K2", "K3"}, [](const int64_t* v) { return v[0] < v[1]; }});
  const Points points = Points::enumerate(space, {50'000, 1});
  EXPECT_TRUE(points.sampled());
  EXPECT_EQ(points.raw_size(), 1e12);
  EXPECT_EQ(points.size(), 50'000u);
  std::vector<int> first(10), eleventh(10);
  for (size_t i = 0; i < points.size(); ++i) {
    ASSERT_TRUE(i % 1000 != 0 || spec::is_valid(space, points.setting(i)));
    ASSERT_EQ(points.find(points.setting(i)), i);
    ++first[points.value_index(i, 0)];
    ++eleventh[points.value_index(i, 11)];
  }
  for (int i = 0; i < 10; ++i) {
    EXPECT_NEAR(first[i], 5000, 400);
    EXPECT_NEAR(eleventh[i], 5000, 400);
  }
}

TEST(Points, ARareButWalkableSpaceIsEnumerated) {
  spec::Space space = cube(12, 10);  // 1e12 raw points, 10 valid ones
  for (int i = 0; i + 1 < 12; ++i)
    space.constraints.push_back({"equal",
                                 {"K" + std::to_string(i), "K" + std::to_string(i + 1)},
                                 [](const int64_t* v) { return v[0] == v[1]; }});
  const Points points = Points::enumerate(space);
  EXPECT_EQ(points.size(), 10u);
  EXPECT_FALSE(points.sampled());
}

TEST(Points, ListedAreSortedAndOnceEach) {
  const Points points = Points::listed(cube(2, 3), {{2, 1}, {0, 2}, {2, 1}});
  ASSERT_EQ(points.size(), 2u);
  EXPECT_EQ(points.find(Points::Indices{0, 2}), 0u);
  EXPECT_EQ(points.find(Points::Indices{2, 1}), 1u);
  EXPECT_THROW(Points::listed(cube(2, 3), {}), base::Error);
  EXPECT_THROW(Points::listed(cube(2, 3), {{0, 3}}), base::Error);
  EXPECT_THROW(Points::listed(cube(2, 3), {{0}}), base::Error);
}

}  // namespace
}  // namespace mlx_kd::search
