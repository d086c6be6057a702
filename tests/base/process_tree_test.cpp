#include "mlx_kd/base/process_tree.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <thread>

namespace mlx_kd::base {
namespace {

#ifdef __linux__
TEST(ProcessTree, SaysWhatAProcessIs) {
  const auto fields = stat_fields(getpid());
  ASSERT_GT(fields.size(), 19u);
  EXPECT_EQ(fields[1], std::to_string(getppid()));
  EXPECT_TRUE(stat_fields(-1).empty());
}

// A process may end between opening its file and reading it, which then fails.
TEST(ProcessTree, AProcessThatEndsWhileItIsLookedAtIsNone) {
  constexpr int kProcesses = 400;
  std::atomic<pid_t> looked_at{0};
  std::atomic<bool> over{false};
  int seen = 0;
  std::thread looker([&] {
    while (!over)
      if (const pid_t pid = looked_at; pid > 0 && !stat_fields(pid).empty()) ++seen;
  });
  for (int i = 0; i < kProcesses; ++i) {
    const pid_t pid = fork();
    if (pid == 0) {
      alarm(10);  // ends it if the test itself has ended
      for (;;) pause();
    }
    looked_at = pid;
    usleep(50);
    kill(pid, SIGKILL);
    waitpid(pid, nullptr, 0);
  }
  over = true;
  looker.join();
  EXPECT_GT(seen, 0);
}
#endif

}  // namespace
}  // namespace mlx_kd::base
