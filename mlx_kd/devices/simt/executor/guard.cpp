#include "mlx_kd/devices/simt/executor/guard.h"

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstring>
#include <memory>

#include "mlx_kd/devices/simt/executor/group.h"

namespace mlx_kd::devices::simt {
namespace {

constexpr int kFaults[] = {SIGSEGV, SIGBUS, SIGFPE};
constexpr int kWake = SIGURG;  // ignored by default
struct sigaction g_before[3];

const char* reason(int signal, const Worker& worker, const void* address) {
  if (signal == SIGFPE) return "a division of integers by zero";
  if (worker.stacks().in_guard(address)) return "a thread needs more than 256 KiB of stack";
  return "an access to memory that is no buffer of the kernel";
}

void on_fault(int signal, siginfo_t* info, void*) {
  Worker* worker = current_worker();
  if (worker) worker->abandon(reason(signal, *worker, info->si_addr));
  for (int i = 0; i < 3; ++i)
    if (kFaults[i] == signal) sigaction(signal, &g_before[i], nullptr);
}

void on_wake(int) {
  if (Worker* worker = current_worker()) worker->abandon("time limit");
}

void install_handlers() {
  struct sigaction action;
  std::memset(&action, 0, sizeof action);
  action.sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK;
  action.sa_sigaction = on_fault;
  for (int i = 0; i < 3; ++i) sigaction(kFaults[i], &action, &g_before[i]);
  struct sigaction wake;
  std::memset(&wake, 0, sizeof wake);
  wake.sa_flags = SA_NODEFER | SA_ONSTACK | SA_RESTART;
  wake.sa_handler = on_wake;
  sigaction(kWake, &wake, nullptr);
}

}  // namespace

FaultGuard::FaultGuard() : stack_(size_t{64} << 10), before_(new stack_t) {
  static std::once_flag once;
  std::call_once(once, install_handlers);
  stack_t mine;
  std::memset(&mine, 0, sizeof mine);
  mine.ss_sp = stack_.data();
  mine.ss_size = stack_.size();
  sigaltstack(&mine, static_cast<stack_t*>(before_));
}

FaultGuard::~FaultGuard() {
  const std::unique_ptr<stack_t> before(static_cast<stack_t*>(before_));
  sigaltstack(before.get(), nullptr);
}

Watchdog::Watchdog(double seconds, std::atomic<bool>& stop) : stop_(stop) {
  if (seconds > 0) thread_ = std::thread([this, seconds] { run(seconds); });
}

Watchdog::~Watchdog() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    over_ = true;
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void Watchdog::run(double seconds) {
  std::unique_lock<std::mutex> lock(mutex_);
  if (changed_.wait_for(lock, std::chrono::duration<double>(seconds), [this] { return over_; }))
    return;
  stop_ = true;
  // Again and again: a signal may come where a worker is between two groups.
  while (!over_ && !watched_.empty()) {
    for (const pthread_t thread : watched_) pthread_kill(thread, kWake);
    changed_.wait_for(lock, std::chrono::milliseconds(20));
  }
}

Watchdog::Watched::Watched(Watchdog& dog) : dog_(dog) {
  const std::lock_guard<std::mutex> lock(dog_.mutex_);
  dog_.watched_.push_back(pthread_self());
}

Watchdog::Watched::~Watched() {
  const std::lock_guard<std::mutex> lock(dog_.mutex_);
  std::erase_if(dog_.watched_, [](pthread_t one) { return pthread_equal(one, pthread_self()); });
}

}  // namespace mlx_kd::devices::simt
