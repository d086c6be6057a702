// Ctrl-C, a terminal that goes away, a polite kill: one thread waits for them, so that what they
// start may lock, allocate and write.
#pragma once

#include <atomic>
#include <functional>
#include <thread>

namespace mlx_kd::cli {

// Blocks SIGINT, SIGTERM and SIGHUP in the calling thread (and those it starts) and calls
// `on_signal` once from a thread of its own at the first; a second SIGINT ends the process with
// 130. SIGPIPE is ignored. Create it before any other thread.
class SignalWatch {
 public:
  explicit SignalWatch(std::function<void()> on_signal);
  ~SignalWatch();
  SignalWatch(const SignalWatch&) = delete;
  SignalWatch& operator=(const SignalWatch&) = delete;

  // 128 + the signal that came, 0 if none: 130 for Ctrl-C.
  int exit_code() const { return exit_code_; }

 private:
  void wait(const std::function<void()>& on_signal);
  std::atomic<int> exit_code_{0};
  std::atomic<bool> over_{false};
  std::thread thread_;
};

}  // namespace mlx_kd::cli
