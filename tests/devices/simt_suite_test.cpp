// Every kernel of the suite in every way that the executor has, against float64.
#include "tests/devices/simt_suite.h"

#include <gtest/gtest.h>

#include <map>

namespace mlx_kd::devices::simt {
namespace {

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
      EXPECT_EQ(difference(GetParam(), given, request), "");
    }
}

TEST_P(Suite, GivesNoFalseReportUnderTheChecks) {
  const Request given = request_of(GetParam());
  Request request = given;
  request.check_races = request.check_memory = true;
  const Outcome outcome = session_of(GetParam()).run(request);
  EXPECT_EQ(difference(GetParam(), given, request), "");
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
    for (size_t i = 0; i < kernel.groups.size(); ++i) made.text += std::to_string(4096 * i) + ", ";
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
    EXPECT_EQ(difference(GetParam(), given, request), "");
  }
}

INSTANTIATE_TEST_SUITE_P(Simt, Suite, testing::ValuesIn(suite()),
                         [](const auto& one) { return one.param.kernel; });

}  // namespace
}  // namespace mlx_kd::devices::simt
