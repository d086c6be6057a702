#include "mlx_kd/cli/terminal/signals.h"

#include <pthread.h>
#include <signal.h>
#include <unistd.h>

namespace mlx_kd::cli {
namespace {

sigset_t watched_signals() {
  sigset_t set;
  sigemptyset(&set);
  for (int signal : {SIGINT, SIGTERM, SIGHUP, SIGUSR2}) sigaddset(&set, signal);
  return set;
}

}  // namespace

SignalWatch::SignalWatch(std::function<void()> on_signal) {
  signal(SIGPIPE, SIG_IGN);
  const sigset_t set = watched_signals();
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
  thread_ = std::thread([this, on_signal = std::move(on_signal)] { wait(on_signal); });
}

// SIGUSR2 from our own destructor ends the wait.
SignalWatch::~SignalWatch() {
  over_ = true;
  pthread_kill(thread_.native_handle(), SIGUSR2);
  thread_.join();
}

void SignalWatch::wait(const std::function<void()>& on_signal) {
  const sigset_t set = watched_signals();
  while (true) {
    int signal = 0;
    sigwait(&set, &signal);
    if (over_) return;
    if (signal == SIGUSR2) continue;
    if (exit_code_ != 0) _exit(exit_code_);
    exit_code_ = 128 + signal;
    on_signal();
  }
}

}  // namespace mlx_kd::cli
