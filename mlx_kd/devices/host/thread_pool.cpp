#include "mlx_kd/devices/host/thread_pool.h"

#include <algorithm>
#include <system_error>

#include "mlx_kd/devices/host/cpu_info.h"

namespace mlx_kd::devices::cpu {
namespace {

constexpr int64_t kMostTasks = int64_t(1) << 30;
// About 5 us of watching, then turns in which other threads of this core may run: in all longer
// than the operations of MLX between two kernels of a graph take. Two threads that watch meet in
// 0.2 to 0.7 us, a thread that sleeps wakes in 44 to 52 us, and a token of a model has 40 such
// meetings.
constexpr int kSpins = 400, kYields = 600;
constexpr int kCaller = -1;

void relax() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

// Waits until the value is no longer `old`: watching it, then yielding, then asleep.
template <class T>
T wait_for_change(const std::atomic<T>& value, T old) {
  for (int i = 0; i < kSpins; ++i) {
    const T now = value.load(std::memory_order_acquire);
    if (now != old) return now;
    relax();
  }
  for (int i = 0; i < kYields; ++i) {
    const T now = value.load(std::memory_order_acquire);
    if (now != old) return now;
    std::this_thread::yield();
  }
  value.wait(old, std::memory_order_acquire);
  return value.load(std::memory_order_acquire);
}

}  // namespace

ThreadPool& ThreadPool::shared() {
  static ThreadPool* pool = new ThreadPool(usable_cores());
  return *pool;
}

ThreadPool::ThreadPool(int threads) {
  for (int i = 1; i < threads; ++i) workers_.push_back(std::make_unique<Worker>());
}

ThreadPool::~ThreadPool() {
  stop_.store(true, std::memory_order_release);
  for (int i = 0; i < started_; ++i) wake(i);
  for (int i = 0; i < started_; ++i) workers_[i]->thread.join();
}

void ThreadPool::run(int threads, int64_t units, int64_t grain, Task task, const void* context) {
  if (units <= 0) return;
  grain = std::max({grain, int64_t(1), (units + kMostTasks - 1) / kMostTasks});
  const int64_t tasks = (units + grain - 1) / grain;
  const int64_t limit = static_cast<int64_t>(workers_.size()) + 1;
  const int wanted = static_cast<int>(std::min({int64_t(threads), tasks, limit})) - 1;
  if (wanted < 1 || busy_.test_and_set(std::memory_order_acquire)) return task(context, 0, units);
  run_with_helpers(start_workers(wanted), units, grain, task, context);
  busy_.clear(std::memory_order_release);
}

// How many of the wanted workers there are: fewer if the system refuses a thread.
int ThreadPool::start_workers(int wanted) {
  try {
    for (; started_ < wanted; ++started_)
      workers_[started_]->thread = std::thread(&ThreadPool::worker_main, this, started_);
  } catch (const std::system_error&) {
  }
  return std::min(started_, wanted);
}

void ThreadPool::run_with_helpers(int helpers, int64_t units, int64_t grain, Task task,
                                  const void* context) {
  task_ = task;
  context_ = context;
  units_ = units;
  grain_ = grain;
  tasks_ = static_cast<uint32_t>((units + grain - 1) / grain);
  unfinished_.store(tasks_, std::memory_order_relaxed);
  left_.store(uint64_t(static_cast<uint32_t>(helpers)) << 32 | tasks_, std::memory_order_release);
  if (helpers > 0) wake(0);
  work(kCaller);
  uint32_t unfinished = unfinished_.load(std::memory_order_acquire);
  while (unfinished != 0) unfinished = wait_for_change(unfinished_, unfinished);
}

void ThreadPool::wake(int index) {
  workers_[index]->signal.fetch_add(1, std::memory_order_release);
  workers_[index]->signal.notify_one();
}

// Woken along a binary tree, so that the caller pays for one wake-up however many threads there
// are.
void ThreadPool::worker_main(int index) {
  uint32_t seen = 0;
  while (true) {
    seen = wait_for_change(workers_[index]->signal, seen);
    if (stop_.load(std::memory_order_acquire)) return;
    const int helpers = static_cast<int>(left_.load(std::memory_order_acquire) >> 32);
    for (int child = 2 * index + 1; child <= 2 * index + 2 && child < helpers; ++child) wake(child);
    work(index);
  }
}

// The count never reaches 0 while a claimed task is unreported, so all claims of one loop belong to
// the same job.
void ThreadPool::work(int index) {
  uint32_t done = 0;
  for (uint32_t task_index = 0; claim(index, task_index); ++done) {
    const int64_t begin = task_index * grain_;
    task_(context_, begin, std::min(units_, begin + grain_));
  }
  if (done > 0 && unfinished_.fetch_sub(done, std::memory_order_acq_rel) == done)
    unfinished_.notify_one();
}

// A worker that wakes late may claim from a newer job: the claim itself makes that job's fields
// visible, and keeps it from ending.
bool ThreadPool::claim(int index, uint32_t& task_index) {
  uint64_t word = left_.load(std::memory_order_acquire);
  while (static_cast<uint32_t>(word) != 0 && index < static_cast<int>(word >> 32)) {
    if (!left_.compare_exchange_weak(word, word - 1, std::memory_order_acq_rel,
                                     std::memory_order_acquire))
      continue;
    task_index = tasks_ - static_cast<uint32_t>(word);
    return true;
  }
  return false;
}

}  // namespace mlx_kd::devices::cpu
