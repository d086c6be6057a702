// Ends kernels that would not end, or that fault, without ending the process.
#pragma once

#include <pthread.h>

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

namespace mlx_kd::devices::simt {

// While it lives, a fault of a kernel on this system thread (an address that is not mapped, a stack
// that is full, a division of integers by zero) abandons its worker. Faults outside kernels go
// where they went before.
class FaultGuard {
 public:
  FaultGuard();
  ~FaultGuard();
  FaultGuard(const FaultGuard&) = delete;
  FaultGuard& operator=(const FaultGuard&) = delete;

 private:
  std::vector<char> stack_;  // handlers cannot run on a stack that is full
  void* before_;
};

// After `seconds` it sets `stop` and abandons all watched workers. 0 seconds: never.
class Watchdog {
 public:
  Watchdog(double seconds, std::atomic<bool>& stop);
  ~Watchdog();
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;

  // The system thread that makes it is watched while it lives.
  class Watched {
   public:
    explicit Watched(Watchdog& dog);
    ~Watched();
    Watched(const Watched&) = delete;
    Watched& operator=(const Watched&) = delete;

   private:
    Watchdog& dog_;
  };

 private:
  void run(double seconds);

  std::atomic<bool>& stop_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<pthread_t> watched_;
  bool over_ = false;
  std::thread thread_;
};

}  // namespace mlx_kd::devices::simt
