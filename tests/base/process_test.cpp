#include "mlx_kd/base/process.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "mlx_kd/base/clock.h"

namespace mlx_kd::base {
namespace {

TEST(Process, ReturnsExitCodeAndBothStreams) {
  const auto result = run_process({"sh", "-c", "echo out; echo err >&2; exit 3"}, 10);
  EXPECT_TRUE(result.started);
  EXPECT_EQ(result.exit_code, 3);
  EXPECT_FALSE(result.ok());
  EXPECT_NE(result.output.find("out"), std::string::npos);
  EXPECT_NE(result.output.find("err"), std::string::npos);
}

TEST(Process, KillsTheWholeGroupAtTheTimeLimit) {
  const int64_t start = steady_ns();
  const auto result = run_process({"sh", "-c", "sleep 60 & sleep 60"}, 0.2);
  EXPECT_TRUE(result.timed_out);
  EXPECT_LT(seconds_since(start), 30);
}

TEST(Process, EndsAsSoonAsItIsCancelled) {
  const int64_t start = steady_ns();
  std::atomic<bool> cancelled{false};
  std::thread canceller([&] { cancelled = true; });
  const auto result = run_process({"sleep", "60"}, 60, 1000, &cancelled);
  canceller.join();
  EXPECT_TRUE(result.timed_out);
  EXPECT_LT(seconds_since(start), 30);
}

TEST(Process, SaysWhatIsNotThereAndWhatDied) {
  EXPECT_FALSE(run_process({"mlx-kd-no-such-program"}, 1).started);
  EXPECT_EQ(run_process({"sh", "-c", "kill -SEGV $$"}, 10).signal, 11);
}

TEST(Process, CutsLongOutput) {
  const auto result = run_process({"sh", "-c", "yes | head -c 100000"}, 10, 1000);
  EXPECT_TRUE(result.ok());
  EXPECT_EQ(result.output.size(), 1000u);
}

}  // namespace
}  // namespace mlx_kd::base
