#include "mlx_kd/evaluate/proof/process_watch.h"

#include <dirent.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

#include "mlx_kd/base/process_tree.h"
#include "mlx_kd/devices/host/cpu_info.h"
#include "mlx_kd/devices/host/float_mode.h"
#include "mlx_kd/devices/host/thread_pool.h"

namespace mlx_kd::evaluate {
namespace {

// 0 where the system does not say.
int thread_count() {
  DIR* const folder = opendir("/proc/self/task");
  if (!folder) return 0;
  int count = 0;
  while (const dirent* entry = readdir(folder)) count += entry->d_name[0] != '.';
  closedir(folder);
  return count;
}

bool has_children() {
  siginfo_t info = {};
  return waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == 0;
}

bool is_same(const struct sigaction& a, const struct sigaction& b) {
  return a.sa_handler == b.sa_handler && a.sa_sigaction == b.sa_sigaction;
}

// Private, writable bytes of this process.
int64_t data_bytes() {
  FILE* const file = std::fopen("/proc/self/statm", "r");
  long size = 0, resident = 0, shared = 0, text = 0, library = 0, data = 0;
  const bool read = file && std::fscanf(file, "%ld %ld %ld %ld %ld %ld", &size, &resident, &shared,
                                        &text, &library, &data) == 6;
  if (file) std::fclose(file);
  return read ? data * sysconf(_SC_PAGESIZE) : 0;
}

}  // namespace

ProcessWatch::ProcessWatch() {
  const int cores = devices::cpu::usable_cores();
  devices::cpu::ThreadPool::shared().run(
      cores, cores, 1, [](const void*, int64_t, int64_t) {}, nullptr);
  for (int signal = 1; signal < kSignals; ++signal) sigaction(signal, nullptr, &handlers_[signal]);
  threads_ = thread_count();
  has_children_ = has_children();
  mode_changes_ = devices::cpu::float_mode_changes();
}

std::string ProcessWatch::change() {
  if (devices::cpu::float_mode_changes() != mode_changes_)
    return "it changed the floating-point mode of its thread";
  for (int signal = 1; signal < kSignals; ++signal) {
    struct sigaction now;
    sigaction(signal, nullptr, &now);
    if (is_same(now, handlers_[signal])) continue;
    sigaction(signal, &handlers_[signal], nullptr);
    return "it installed a signal handler";
  }
  if (!has_children_ && has_children()) {
    base::end_descendants();
    return "it started a process";
  }
  if (thread_count() > threads_) return "it started a thread that works on after it has returned";
  return "";
}

MemoryLimit::MemoryLimit(int64_t bytes) {
#ifdef __linux__
  const int64_t now = data_bytes();
  rlimit limit;
  if (now == 0 || getrlimit(RLIMIT_DATA, &limit) != 0) return;
  before_ = limit.rlim_cur;
  const auto wanted = static_cast<rlim_t>(now + bytes);
  if (limit.rlim_cur != RLIM_INFINITY && limit.rlim_cur < wanted) return;
  limit.rlim_cur = wanted;
  set_ = setrlimit(RLIMIT_DATA, &limit) == 0;
#else
  (void)bytes;
#endif
}

MemoryLimit::~MemoryLimit() {
  rlimit limit;
  if (!set_ || getrlimit(RLIMIT_DATA, &limit) != 0) return;
  limit.rlim_cur = before_;
  setrlimit(RLIMIT_DATA, &limit);
}

}  // namespace mlx_kd::evaluate
