// The threads that share a kernel's work: one pool per process, made once, sleeping between calls.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <thread>
#include <vector>

namespace mlx_kd::devices::cpu {

// run() from any thread. No allocation a call; a worker thread starts when a call first needs it.
//
// One call at a time has the workers; a call that comes meanwhile does all its work on its own
// thread, so nothing ever waits for another caller and nothing can deadlock. Tasks are claimed one
// by one: a worker that the system has not run yet is not waited for, the caller does its share.
class ThreadPool {
 public:
  // Computes units [begin, end).
  using Task = void (*)(const void* context, int64_t begin, int64_t end);

  // The pool of the process: usable_cores() threads, the caller's among them. Never destroyed:
  // MLX's stream threads may still run while a process ends.
  static ThreadPool& shared();

  explicit ThreadPool(int threads);  // at least 1, the caller's among them
  ~ThreadPool();                     // no call may be running
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  // Calls task for all of [0, units) in pieces of `grain` units, on at most `threads` threads, and
  // returns when all are done. The task must not throw.
  void run(int threads, int64_t units, int64_t grain, Task task, const void* context);

 private:
  // On a cache line of its own: each is polled by one thread.
  struct alignas(64) Worker {
    std::atomic<uint32_t> signal{0};
    std::thread thread;
  };

  int start_workers(int wanted);
  void run_with_helpers(int helpers, int64_t units, int64_t grain, Task task, const void* context);
  void worker_main(int index);
  void wake(int index);
  void work(int index);
  bool claim(int index, uint32_t& task_index);

  std::vector<std::unique_ptr<Worker>> workers_;
  int started_ = 0;

  // The job. Written by the caller that holds busy_ while no task is left, read after a claim.
  Task task_ = nullptr;
  const void* context_ = nullptr;
  int64_t units_ = 0, grain_ = 1;
  uint32_t tasks_ = 0;

  std::atomic_flag busy_;
  std::atomic<bool> stop_{false};
  alignas(64) std::atomic<uint64_t> left_{0};        // helpers << 32 | tasks not yet claimed
  alignas(64) std::atomic<uint32_t> unfinished_{0};  // tasks not yet done
};

}  // namespace mlx_kd::devices::cpu
