// Ranks that belong together, and those that do not: who differs, and in what.
#include "mlx_kd/discover/cluster/introduction.h"

#include <gtest/gtest.h>

#include "mlx_kd/base/error.h"

namespace mlx_kd::discover {
namespace {

Introduction introduction(const std::string& device = "EPYC") {
  Introduction result;
  result.alike = {{"mlx-kd version", "0.1.0"}, {"seed", "7"}, {"--resume", "not given"}};
  result.device = {{"device_kind", "cpu"}, {"device_name", device}};
  result.device_alike = {{"space of kernels", "0123456789abcdef"}};
  result.budget = 400;
  result.points = 1000;
  return result;
}

std::vector<ProcessName> hosts(size_t count) {
  std::vector<ProcessName> result(count);
  for (size_t i = 0; i < count; ++i) result[i].host = "host" + std::to_string(i);
  return result;
}

std::string refusal(const std::vector<Introduction>& introductions) {
  try {
    kinds_of(introductions, hosts(introductions.size()));
  } catch (const base::Error& error) {
    EXPECT_EQ(error.exit_code(), 2);
    return error.what();
  }
  return "";
}

TEST(Introductions, SurviveTheWay) {
  const Introduction one = introduction();
  const Introduction read = introduction_from(to_text(one));
  EXPECT_EQ(read.alike, one.alike);
  EXPECT_EQ(read.device, one.device);
  EXPECT_EQ(read.device_alike, one.device_alike);
  EXPECT_EQ(read.budget, one.budget);
  EXPECT_EQ(read.points, one.points);
}

TEST(Introductions, ThatAreNoneAreRefused) {
  EXPECT_THROW(introduction_from("{}"), base::Error);
  EXPECT_THROW(introduction_from("nonsense"), base::Error);
  for (const char* alike : {R"({"seed":7})", R"(["seed"])", "7", "null"})
    EXPECT_THROW(introduction_from(std::string(R"({"alike":)") + alike +
                                   R"(,"device":{},"device_alike":{},"budget":1,"points":1})"),
                 base::Error)
        << alike;
}

TEST(Kinds, RanksOfOneDeviceAreTogetherInTheOrderOfTheFirst) {
  const auto kinds = kinds_of(
      {introduction("A"), introduction("B"), introduction("A"), introduction("B")}, hosts(4));
  ASSERT_EQ(kinds.size(), 2u);
  EXPECT_EQ(kinds[0].ranks, (std::vector<int>{0, 2}));
  EXPECT_EQ(kinds[1].ranks, (std::vector<int>{1, 3}));
  EXPECT_NE(kinds[0].tag, kinds[1].tag);
  EXPECT_EQ(kinds[0].tag.size(), 8u);
}

TEST(Kinds, AnotherVersionIsNamedWithBothValues) {
  auto other = introduction();
  other.alike["mlx-kd version"] = "0.2.0";
  const std::string why = refusal({introduction(), introduction(), other});
  EXPECT_NE(why.find("rank 0 on host0 and rank 2 on host2 differ in mlx-kd version ('0.1.0' and "
                     "'0.2.0')"),
            std::string::npos)
      << why;
}

TEST(Kinds, ResumeOnOneRankAloneIsNamed) {
  auto other = introduction();
  other.alike["--resume"] = "given";
  const std::string why = refusal({introduction(), other});
  EXPECT_NE(why.find("--resume ('not given' and 'given')"), std::string::npos) << why;
}

TEST(Kinds, AnotherSpaceOnTheSameDeviceIsRefusedAndOnAnotherDeviceIsNot) {
  auto other = introduction();
  other.device_alike["space of kernels"] = "fedcba9876543210";
  EXPECT_NE(refusal({introduction("B"), introduction(), other})
                .find("rank 1 on host1 and rank 2 on host2 differ in space of kernels"),
            std::string::npos);
  other.device["device_name"] = "B";
  EXPECT_EQ(refusal({introduction(), other}), "");
}

TEST(Kinds, ManyThatDifferAreCounted) {
  std::vector<Introduction> all = {introduction()};
  for (int i = 0; i < 9; ++i) {
    all.push_back(introduction());
    all.back().alike["seed"] = std::to_string(100 + i);
  }
  const std::string why = refusal(all);
  EXPECT_NE(why.find("and 6 more"), std::string::npos) << why;
}

TEST(Kinds, MoreRanksThanWorkAreRefused) {
  auto small = introduction();
  small.budget = 2;
  EXPECT_NE(refusal({small, small, small}).find("start at most 2"), std::string::npos);
  small.budget = 400;
  small.points = 1;
  EXPECT_NE(refusal({small, small}).find("a space of 1 kernels"), std::string::npos);
}

}  // namespace
}  // namespace mlx_kd::discover
