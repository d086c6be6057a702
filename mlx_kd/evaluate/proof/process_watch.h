// What a kernel may not leave changed in the process that runs it.
#pragma once

#include <signal.h>

#include <array>
#include <cstdint>
#include <string>

namespace mlx_kd::evaluate {

// Made before a candidate's first launch; asked after each. Threads and processes are watched on
// Linux alone.
class ProcessWatch {
 public:
  // Starts the threads that kernels share, so that only others count as new.
  ProcessWatch();

  // What has changed since then, for a verdict: "" if nothing has. Signal handlers are put back,
  // and processes that were started are ended.
  std::string change();

 private:
  static constexpr int kSignals = 32;
  std::array<struct sigaction, kSignals> handlers_;
  int threads_;
  bool has_children_;
  uint64_t mode_changes_;
};

// While it lives, this process can take at most so many bytes of private memory beyond what it has:
// an allocation above that fails.
class MemoryLimit {
 public:
  explicit MemoryLimit(int64_t bytes);
  ~MemoryLimit();
  MemoryLimit(const MemoryLimit&) = delete;
  MemoryLimit& operator=(const MemoryLimit&) = delete;

 private:
  uint64_t before_ = 0;
  bool set_ = false;
};

}  // namespace mlx_kd::evaluate
