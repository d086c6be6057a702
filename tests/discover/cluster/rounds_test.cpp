// The rounds of a search that ranks share: who evaluates how much, and when it is over.
#include "mlx_kd/discover/cluster/rounds.h"

#include <gtest/gtest.h>

namespace mlx_kd::discover {
namespace {

std::vector<RoundReport> reports_of(const Rounds& rounds, size_t ranks, bool benchmarked = true) {
  std::vector<RoundReport> reports;
  for (size_t place = 0; place < ranks; ++place)
    reports.push_back({rounds.share_of(place), benchmarked, false});
  return reports;
}

TEST(Rounds, SpendTheBudgetExactly) {
  for (const uint64_t budget : {4u, 5u, 33u, 100u, 1000u}) {
    Rounds rounds(budget, 8, 4);
    rounds.start(0, false);
    uint64_t evaluated = 1;  // the anchor, which all evaluate, counts once
    rounds.take(reports_of(rounds, 4));
    while (!rounds.over()) {
      const auto reports = reports_of(rounds, 4);
      for (const RoundReport& report : reports) {
        EXPECT_LE(report.evaluated, 8u);
        evaluated += report.evaluated;
      }
      rounds.take(reports);
    }
    EXPECT_EQ(evaluated, budget);
  }
}

TEST(Rounds, SeekAnAnchorThatPassesOnAll) {
  Rounds rounds(100, 8, 2);
  rounds.start(0, false);
  EXPECT_EQ(rounds.share_of(1), 1u);
  rounds.take({{1, true, false}, {1, false, false}});
  EXPECT_FALSE(rounds.anchored());
  EXPECT_EQ(rounds.share_of(0), 1u);
  rounds.take({{1, true, false}, {1, true, false}});
  EXPECT_TRUE(rounds.anchored());
  EXPECT_EQ(rounds.share_of(0), 8u);
}

TEST(Rounds, EndWhereNothingPasses) {
  Rounds rounds(3, 8, 2);
  rounds.start(0, false);
  for (int i = 0; i < 3; ++i) rounds.take(reports_of(rounds, 2, false));
  EXPECT_TRUE(rounds.over());
  EXPECT_FALSE(rounds.anchored());
}

TEST(Rounds, EndWhereTheSpaceHasRunOut) {
  Rounds rounds(100, 8, 2);
  rounds.start(50, true);
  rounds.take({{3, true, false}, {0, false, false}});
  EXPECT_FALSE(rounds.over());
  rounds.take({{0, false, false}, {0, false, false}});
  EXPECT_TRUE(rounds.over());
}

TEST(Rounds, EndWhereAllHaveEnough) {
  Rounds rounds(100, 8, 2);
  rounds.start(50, true);
  rounds.take({{8, true, true}, {8, true, false}});
  EXPECT_FALSE(rounds.over());
  rounds.take({{8, true, true}, {8, true, true}});
  EXPECT_TRUE(rounds.over());
}

TEST(Rounds, ARunThatIsDoneIsOver) {
  Rounds rounds(100, 8, 4);
  rounds.start(100, true);
  EXPECT_TRUE(rounds.over());
  EXPECT_EQ(rounds.share_of(0), 0u);
}

TEST(Rounds, ReportsSurviveTheWay) {
  const RoundReport read = report_from_json(to_json(RoundReport{5, true, false}));
  EXPECT_EQ(read.evaluated, 5u);
  EXPECT_TRUE(read.benchmarked);
  EXPECT_FALSE(read.enough);
}

TEST(Rounds, WhatIsNoReportIsRefused) {
  for (const char* text :
       {"[]", "{}", "7", R"({"evaluated": "many", "benchmarked": true, "enough": false})"})
    EXPECT_THROW(report_from_json(base::Json::parse(text)), base::Error) << text;
}

}  // namespace
}  // namespace mlx_kd::discover
