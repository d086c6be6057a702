// Every kernel of the suite in every way that the executor has, against float64.
#include "tests/devices/simt_suite.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "mlx_kd/base/files.h"

namespace mlx_kd::devices::simt {
namespace {

// One compilation a file and set of function constants.
Session& session_of(const SuiteCase& one) {
  static std::map<std::string, std::unique_ptr<Session>> sessions;
  std::string key = one.file;
  for (const auto& [index, value] : one.constants) key += "," + std::to_string(index) + "=" + value;
  std::unique_ptr<Session>& session = sessions[key];
  if (!session) {
    const std::string path = std::string(MLX_KD_SOURCE_DIR) + "/tests/msl/suite/" + one.file;
    session =
        std::make_unique<Session>(path, base::read_file(path, "test"), msl::PreprocessOptions{},
                                  msl::TranslateOptions{one.constants});
  }
  return *session;
}

Request request_of(const SuiteCase& one) {
  Request request;
  request.kernel = one.kernel;
  request.grid = one.grid;
  request.threadgroup = one.threadgroup;
  request.group_bytes = one.group_bytes;
  request.launch.timeout_s = 60;
  for (const std::string& text : one.inputs) request.arrays.push_back(parse_array(text, 7));
  for (const std::string& text : one.outputs) request.arrays.push_back(parse_output(text));
  return request;
}

Values values_of(const Request& request, const std::string& name) {
  Values values;
  for (const HostArray& one : request.arrays)
    if (one.name == name)
      for (size_t i = 0; i < one.elements(); ++i) values.push_back(one.at(i));
  return values;
}

void expect_result(const SuiteCase& one, const Request& given, const Request& done) {
  const Values expected =
      one.expected([&](const std::string& name) { return values_of(given, name); });
  const Values result = values_of(done, one.result);
  ASSERT_EQ(result.size(), expected.size());
  for (size_t i = 0; i < result.size(); ++i)
    ASSERT_LE(std::fabs(result[i] - expected[i]),
              one.tolerance * std::max(1.0, std::fabs(expected[i])))
        << one.result << "[" << i << "] is " << result[i] << ", not " << expected[i];
}

class Suite : public testing::TestWithParam<SuiteCase> {};

TEST_P(Suite, ComputesWhatFloat64SaysInEveryOrderAndBothWays) {
  for (const Order order : {Order::forward, Order::reverse, Order::random})
    for (const bool fibers : {false, true}) {
      const Request given = request_of(GetParam());
      Request request = given;
      request.launch.order = order;
      request.launch.seed = 11;
      request.launch.fibers = fibers;
      session_of(GetParam()).run(request);
      expect_result(GetParam(), given, request);
    }
}

TEST_P(Suite, GivesNoFalseReportUnderTheChecks) {
  const Request given = request_of(GetParam());
  Request request = given;
  request.check_races = request.check_memory = true;
  const Outcome outcome = session_of(GetParam()).run(request);
  expect_result(GetParam(), given, request);
  if (!GetParam().diverges) {
    EXPECT_EQ(outcome.findings, std::vector<std::string>());
  } else {
    ASSERT_FALSE(outcome.findings.empty());
    EXPECT_NE(outcome.findings[0].find("under divergence"), std::string::npos)
        << outcome.findings[0];
  }
}

INSTANTIATE_TEST_SUITE_P(Simt, Suite, testing::ValuesIn(suite()),
                         [](const auto& one) { return one.param.kernel; });

}  // namespace
}  // namespace mlx_kd::devices::simt
