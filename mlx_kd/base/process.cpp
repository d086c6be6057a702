#include "mlx_kd/base/process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <filesystem>
#include <fstream>

#include "mlx_kd/base/clock.h"

extern char** environ;

namespace mlx_kd::base {
namespace {

std::vector<char*> pointers_to(std::vector<std::string>& strings) {
  std::vector<char*> result;
  for (auto& s : strings) result.push_back(s.data());
  result.push_back(nullptr);
  return result;
}

// Starts argv with stdout and stderr going to write_fd; 0 if it could not be started.
pid_t spawn(const std::vector<std::string>& argv, int write_fd) {
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_adddup2(&actions, write_fd, 1);
  posix_spawn_file_actions_adddup2(&actions, write_fd, 2);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  sigset_t none, pipe_signal;
  sigemptyset(&none);
  sigemptyset(&pipe_signal);
  sigaddset(&pipe_signal, SIGPIPE);
  posix_spawnattr_setsigmask(
      &attributes, &none);  // we may block or ignore some; the program must not inherit that
  posix_spawnattr_setsigdefault(&attributes, &pipe_signal);
  posix_spawnattr_setflags(&attributes,
                           POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  auto arguments = argv;
  std::vector<std::string> variables;
  for (char** entry = environ; *entry; ++entry)
    if (std::string(*entry).rfind("LC_ALL=", 0) != 0) variables.emplace_back(*entry);
  variables.emplace_back("LC_ALL=C");
  pid_t pid = 0;
  const int status = posix_spawnp(&pid, argv[0].c_str(), &actions, &attributes,
                                  pointers_to(arguments).data(), pointers_to(variables).data());
  posix_spawn_file_actions_destroy(&actions);
  posix_spawnattr_destroy(&attributes);
  return status == 0 ? pid : 0;
}

// At once after the start, before a compiler's driver has started its parts.
void set_limits([[maybe_unused]] pid_t pid, [[maybe_unused]] const ProcessLimits& limits) {
#ifdef __linux__
  const auto set = [&](auto resource, int64_t bytes) {
    const rlimit limit{static_cast<rlim_t>(bytes), static_cast<rlim_t>(bytes)};
    if (bytes > 0) prlimit(pid, resource, &limit, nullptr);
  };
  set(RLIMIT_AS, limits.memory);
  set(RLIMIT_FSIZE, limits.file);
#endif
}

// The longest time for which a process of the group was ready to run and had no processor; 0 where
// the system does not say.
int64_t waited_ns([[maybe_unused]] pid_t group) {
  int64_t most = 0;
#ifdef __linux__
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator("/proc", error)) {
    const std::string name = entry.path().filename();
    if (!std::isdigit(static_cast<unsigned char>(name[0])) || getpgid(std::stoi(name)) != group)
      continue;
    int64_t ran = 0, waited = 0;
    if (std::ifstream(entry.path() / "schedstat") >> ran >> waited) most = std::max(most, waited);
  }
#endif
  return most;
}

// When to stop waiting for a group of processes.
class Limit {
 public:
  Limit(double seconds, pid_t group, bool waits_free, const std::atomic<bool>* cancelled)
      : seconds_(seconds), group_(waits_free ? group : 0), cancelled_(cancelled) {}

  bool polls() const { return cancelled_; }
  int64_t left_ms() {
    if (cancelled_ && *cancelled_) return 0;
    if (left_ns() <= 0 && group_ != 0)
      free_ns_ = std::min(waited_ns(group_), int64_t(kMostWaits * seconds_ * 1e9));
    return (left_ns() + 999999) / 1000000;  // none is left only where no part of one is
  }

 private:
  static constexpr double kMostWaits = 9;  // times the limit
  int64_t left_ns() const { return start_ns_ + int64_t(seconds_ * 1e9) + free_ns_ - steady_ns(); }

  int64_t start_ns_ = steady_ns(), free_ns_ = 0;
  double seconds_;
  pid_t group_;  // 0: waits are not free
  const std::atomic<bool>* cancelled_;
};

// Reads fd until it closes or the limit passes; false on the limit.
bool read_until(int fd, Limit& limit, size_t max_output, std::string& output) {
  char buffer[1 << 14];
  const int64_t turn_ms = limit.polls() ? 20 : 1000;
  while (true) {
    const int64_t left_ms = limit.left_ms();
    if (left_ms <= 0) return false;
    pollfd ready{fd, POLLIN, 0};
    if (poll(&ready, 1, static_cast<int>(std::min(left_ms, turn_ms))) <= 0) continue;
    const ssize_t n = read(fd, buffer, sizeof buffer);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return true;
    output.append(
        buffer, std::min(static_cast<size_t>(n), max_output - std::min(max_output, output.size())));
  }
}

// Waits for pid until the limit; false if it is still there then.
bool wait_until(pid_t pid, Limit& limit, int& status) {
  while (waitpid(pid, &status, WNOHANG) == 0) {
    if (limit.left_ms() <= 0) return false;
    usleep(500);
  }
  return true;
}

}  // namespace

ProcessResult run_process(const std::vector<std::string>& argv, double timeout_s, size_t max_output,
                          const std::atomic<bool>* cancelled, const ProcessLimits& limits) {
  ProcessResult result;
  int pipe_fds[2];
  if (argv.empty() || pipe2(pipe_fds, O_CLOEXEC) != 0) return result;
  const pid_t pid = spawn(argv, pipe_fds[1]);
  close(pipe_fds[1]);
  if (pid == 0) {
    close(pipe_fds[0]);
    return result;
  }
  result.started = true;
  set_limits(pid, limits);
  Limit limit(timeout_s, pid, limits.waits_free, cancelled);
  int status = 0;
  result.timed_out =
      !read_until(pipe_fds[0], limit, max_output, result.output) || !wait_until(pid, limit, status);
  close(pipe_fds[0]);
  if (result.timed_out) {
    kill(-pid, SIGKILL);
    waitpid(pid, &status, 0);
  }
  if (WIFEXITED(status)) result.exit_code = WEXITSTATUS(status);
  if (WIFSIGNALED(status)) result.signal = WTERMSIG(status);
  return result;
}

}  // namespace mlx_kd::base
