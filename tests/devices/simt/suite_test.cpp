// Every kernel of the suite in every way that the executor has, against float64.
#include "tests/devices/simt/suite.h"

#include <gtest/gtest.h>

#include <map>

#include "tests/devices/cuda/emulated_cuda.h"

namespace mlx_kd::devices::simt {
namespace {

class Suite : public testing::TestWithParam<SuiteCase> {};

TEST_P(Suite, ComputesWhatFloat64SaysInEveryOrderAndBothWays) {
  for (const ThreadOrder order : {ThreadOrder::forward, ThreadOrder::reverse, ThreadOrder::random})
    for (const bool fibers : {false, true}) {
      const MslRequest given = request_of(GetParam());
      MslRequest request = given;
      request.launch.order = order;
      request.launch.seed = 11;
      request.launch.fibers = fibers;
      session_of(GetParam()).run(request);
      EXPECT_EQ(difference(GetParam(), given, request), "");
    }
}

TEST_P(Suite, GivesNoFalseReportUnderTheChecks) {
  const MslRequest given = request_of(GetParam());
  MslRequest request = given;
  request.check_races = request.check_memory = true;
  const MslOutcome outcome = session_of(GetParam()).run(request);
  EXPECT_EQ(difference(GetParam(), given, request), "");
  if (!GetParam().diverges) {
    EXPECT_EQ(outcome.findings, std::vector<std::string>());
  } else {
    ASSERT_FALSE(outcome.findings.empty());
    EXPECT_NE(outcome.findings[0].find("under divergence"), std::string::npos)
        << outcome.findings[0];
  }
}

const EmulatedCuda& emulated_of(const SuiteCase& one) {
  static std::map<const Session*, std::unique_ptr<EmulatedCuda>> all;
  const Session& session = session_of(one);
  std::unique_ptr<EmulatedCuda>& made = all[&session];
  if (!made) {
    msl::TranslateOptions options;
    options.function_constants = one.constants;
    made = std::make_unique<EmulatedCuda>(session.unit(), options);
  }
  return *made;
}

TEST_P(Suite, ComputesTheSameAsCuda) {
  if (GetParam().diverges) GTEST_SKIP() << "lanes of a warp must meet together in CUDA";
  const EmulatedCuda& made = emulated_of(GetParam());
  ASSERT_TRUE(made.compiled());
  const MslRequest given = request_of(GetParam());
  MslRequest request = given;
  const LaunchReport report = made.run(request);
  EXPECT_EQ(report.fault, "");
  EXPECT_FALSE(report.timed_out);
  EXPECT_EQ(difference(GetParam(), given, request), "");
}

INSTANTIATE_TEST_SUITE_P(Simt, Suite, testing::ValuesIn(suite()),
                         [](const auto& one) { return one.param.kernel; });

}  // namespace
}  // namespace mlx_kd::devices::simt
