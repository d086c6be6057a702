// One threadgroup at work on one system thread.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "mlx_kd/base/random.h"
#include "mlx_kd/devices/simt/executor/executor.h"
#include "mlx_kd/devices/simt/executor/fiber.h"

namespace mlx_kd::devices::simt {

// Threadgroup memory: one arena, cut into variables as they are first asked for, the same way in
// every group of a launch.
class GroupMemory {
 public:
  GroupMemory();
  ~GroupMemory();
  GroupMemory(const GroupMemory&) = delete;
  GroupMemory& operator=(const GroupMemory&) = delete;

  void start_launch(const std::vector<size_t>& group_bytes, Monitor* monitor);
  // nullptr if the threadgroup has no room for it.
  void* variable(unsigned slot, size_t bytes, size_t alignment);
  void* const* arguments() const { return arguments_.data(); }
  size_t used() const { return used_; }

 private:
  void* cut(size_t bytes, size_t alignment, int name);

  char* base_;
  size_t used_ = 0;  // bytes that count towards the limit
  size_t top_ = 0;   // bytes of the arena, gaps included
  std::vector<void*> slots_;
  std::vector<void*> arguments_;
  Monitor* monitor_ = nullptr;
};

// What all workers of a launch share: copies, so that no worker reads what was made by another
// thread than the one that starts it (MLX hands kernels from thread to thread).
struct Job {
  Entry entry;
  std::vector<void*> buffers;
  std::vector<size_t> group_bytes;
  Size3 grid, group, groups;
  LaunchOptions options;
  int64_t start = 0;
  mutable std::atomic<bool> stop{false};
  mutable std::atomic<uint64_t> groups_run{0};  // not of those that run as loops
};

class Worker {
 public:
  explicit Worker(const Job& job);
  ~Worker();

  // Whether the threads of a group run as loops.
  bool loops() const { return job_.entry.group && !job_.options.fibers; }
  // Run the group with the linear index `g`, all groups of [first, last) as loops. False if one was
  // ended early; fault() says why.
  bool run(uint64_t g);
  bool run_loops(uint64_t first, uint64_t last);
  const char* fault() const { return fault_; }
  int divergent_barrier_site() const { return divergent_barrier_; }
  int divergent_simd_site() const { return divergent_simd_; }

  // Called on fibers.
  void barrier(int site, int kind, int flags);
  void meet(int site, int width, const void* in, void* out, kd_combine combine);
  void* shared(unsigned slot, size_t bytes, size_t alignment);
  const kd_thread& self() const { return places_[static_cast<size_t>(current_)]; }
  Monitor* monitor() const { return job_.options.monitor; }
  // Gives up the group from wherever a fiber is, a signal handler included. Returns only if no
  // fiber runs.
  void abandon(const char* why);
  void touch(const void* address, size_t bytes, int kind, const void* code);
  const Stacks& stacks() const { return *stacks_; }

 private:
  enum class State : uint8_t { ready, simd, simd_barrier, barrier, done };
  // What the scheduler reads again and again: kept small.
  struct Fiber {
    Context context;
    const void* in;
    void* out;
    kd_combine combine;
    int site;
    int flags;
    State state;
  };

  kd_group place_of(uint64_t g) const;
  void advance(kd_group& place) const;
  void run_fibers(const kd_group& place);
  void start_fibers(const kd_group& place);
  void expect_fibers();
  MLX_KD_LEFT_BY_SWITCH static void fiber_main();
  MLX_KD_LEFT_BY_SWITCH static void loop_main();
  MLX_KD_LEFT_BY_SWITCH void yield();
  int next_fiber();
  struct Simdgroup {
    int first, last;  // in order_
  };
  bool settle(const Simdgroup& lanes);
  void exchange(const Simdgroup& lanes, int site);
  bool settle_group();
  void order_threads();

  const Job& job_;
  std::unique_ptr<Stacks> stacks_;
  GroupMemory memory_;
  std::vector<Fiber> fibers_;
  std::vector<kd_thread> places_;  // of the same threads
  std::vector<int> order_;         // threads in the order in which they run
  Context main_;
  base::Random random_;
  uint64_t loop_first_ = 0, loop_last_ = 0;
  int threads_ = 0;
  int current_ = 0;
  int position_ = 0;  // in order_: where the search for the next ready thread continues
  size_t simdgroup_ = 0;
  std::vector<Simdgroup> simdgroups_;  // in the order in which they run
  // Set while host code that allocates runs on a fiber: such code is not abandoned.
  class Busy {
   public:
    explicit Busy(Worker& worker) : worker_(worker) { worker_.busy_ = true; }
    ~Busy() { worker_.busy_ = false; }

   private:
    Worker& worker_;
  };
  volatile bool busy_ = false;
  volatile bool running_ = false;  // a fiber is, and may be abandoned
  const char* volatile fault_ = nullptr;
  int divergent_barrier_ = -1;
  int divergent_simd_ = -1;
};

// The worker of this system thread, null outside launches.
Worker*& current_worker();

}  // namespace mlx_kd::devices::simt
