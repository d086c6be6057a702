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

// The CUDA text with entries for the executor. Buffer 31 holds the true grid: CUDA launches whole
// blocks, so the launch itself is rounded up.
msl::Translation emulated(const msl::Unit& unit, const SuiteCase& one) {
  msl::Translation made = msl::translate(unit, msl::Target::cuda, {one.constants});
  made.text = "#define KD_EMULATE_CUDA 1\n" + made.text +
              "struct kd_any { void* at; template <class T> operator T*() const { return "
              "static_cast<T*>(at); } };\n";
  for (const msl::Kernel& kernel : made.kernels) {
    made.text += "extern \"C\" void " + kernel.symbol +
                 "_thread(void* const* b, void* const*, const kd_thread*) {\n  const int* g = "
                 "static_cast<const int*>(b[31]);\n  metal::source::" +
                 kernel.symbol + "(";
    for (const msl::Binding& buffer : kernel.buffers)
      made.text += "kd_any{b[" + std::to_string(buffer.index) + "]}, ";
    for (size_t i = 0; i < kernel.groups.size(); ++i) made.text += "0, ";
    made.text += "g[0], g[1], g[2]);\n}\n";
  }
  return made;
}

struct Emulated {
  msl::Translation text;
  std::shared_ptr<Module> module;
};

const Emulated& emulated_of(const SuiteCase& one) {
  static std::map<const Session*, Emulated> all;
  const Session& session = session_of(one);
  Emulated& made = all[&session];
  if (made.module) return made;
  made.text = emulated(session.unit(), one);
  std::vector<msl::Diagnostic> found;
  made.module = compile(session.unit(), made.text, {}, found);
  if (!made.module) ADD_FAILURE() << msl::describe(*session.unit().sources, found[0]);
  return made;
}

TEST_P(Suite, ComputesTheSameAsCuda) {
  if (GetParam().diverges) GTEST_SKIP() << "lanes of a warp must meet together in CUDA";
  const Emulated& made = emulated_of(GetParam());
  ASSERT_TRUE(made.module);
  for (const msl::Kernel& kernel : made.text.kernels) {
    if (kernel.name != GetParam().kernel) continue;
    const Request given = request_of(GetParam());
    Request request = given;
    int grid[3];
    Size3 whole;
    for (int d = 0; d < 3; ++d) {
      grid[d] = static_cast<int>(request.grid[d]);
      const uint32_t group = std::min(request.threadgroup[d], request.grid[d]);
      whole[d] = (request.grid[d] + group - 1) / group * group;
    }
    std::vector<void*> buffers(32, nullptr);
    buffers[31] = grid;
    for (const msl::Binding& buffer : kernel.buffers)
      for (HostArray& array : request.arrays)
        if (array.name == buffer.name) buffers[static_cast<size_t>(buffer.index)] = array.data();
    LaunchOptions options;
    options.cores = 1;
    options.timeout_s = 60;
    const LaunchReport report =
        launch(made.module->entry(kernel), buffers, {}, whole, request.threadgroup, options);
    EXPECT_EQ(report.fault, "");
    EXPECT_FALSE(report.timed_out);
    expect_result(GetParam(), given, request);
  }
}

INSTANTIATE_TEST_SUITE_P(Simt, Suite, testing::ValuesIn(suite()),
                         [](const auto& one) { return one.param.kernel; });

}  // namespace
}  // namespace mlx_kd::devices::simt
