#include "mlx_kd/base/process.h"

#include <gtest/gtest.h>
#include <sched.h>

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

#ifdef __linux__
// Two that never rest on one processor: each has it for half of the time, and more so where others
// want it as well.
TEST(Process, ATimeLimitNeedNotCountWaitingForAProcessor) {
  cpu_set_t before, one;
  ASSERT_EQ(sched_getaffinity(0, sizeof before, &before), 0);
  CPU_ZERO(&one);
  for (int cpu = 0; cpu < CPU_SETSIZE && CPU_COUNT(&one) == 0; ++cpu)
    if (CPU_ISSET(cpu, &before)) CPU_SET(cpu, &one);
  ASSERT_EQ(sched_setaffinity(0, sizeof one, &one), 0);  // of this thread and what it starts
  std::atomic<bool> done{false};
  std::thread busy([&] {
    while (!done) continue;
  });
  const auto seconds = [](bool waits_free, const char* script) {
    ProcessLimits limits;
    limits.waits_free = waits_free;
    const int64_t start = steady_ns();
    EXPECT_TRUE(run_process({"sh", "-c", script}, 0.4, 1000, nullptr, limits).timed_out);
    return seconds_since(start);
  };
  const double counted = seconds(false, "while :; do :; done");
  const double free = seconds(true, "while :; do :; done");
  const double idle = seconds(true, "exec sleep 60");
  done = true;
  busy.join();
  sched_setaffinity(0, sizeof before, &before);
  EXPECT_GE(counted, 0.4);
  EXPECT_GE(free, 0.55);
  EXPECT_LT(free, 30);
  EXPECT_LT(idle, 30);
}
#endif

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
