#include "mlx_kd/devices/simt/executor/executor.h"

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <mutex>
#include <thread>

#include "mlx_kd/base/clock.h"
#include "mlx_kd/base/error.h"
#include "mlx_kd/devices/simt/executor/group.h"
#include "mlx_kd/devices/simt/executor/guard.h"
#include "mlx_kd/devices/simt/executor/monitor.h"

namespace mlx_kd::devices::simt {
namespace {

// Loops count positions that must not wrap (KD_THREADS of the prelude).
constexpr uint32_t kMaxLoopGrid = 0xfffff000u;

void check_sizes(Size3 grid, Size3 group, const std::vector<size_t>& group_bytes) {
  static constexpr const char* names[3] = {"x", "y", "z"};
  for (int d = 0; d < 3; ++d) {
    if (grid[d] == 0)
      base::misuse("simt",
                   std::string("the grid has 0 threads in ") + names[d] + ": give 1 or more");
    if (group[d] == 0)
      base::misuse(
          "simt", std::string("the threadgroup has 0 threads in ") + names[d] + ": give 1 or more");
  }
  const uint64_t threads = uint64_t{group[0]} * group[1] * group[2];
  if (group[0] > kMaxThreads || group[1] > kMaxThreads || threads > kMaxThreads)
    base::misuse("simt", "a threadgroup of " + std::to_string(threads) +
                             " threads: Metal allows at most 1024");
  size_t bytes = 0;
  for (const size_t one : group_bytes)
    bytes = one > SIZE_MAX - bytes ? SIZE_MAX : bytes + one;  // many large ones do not wrap
  if (bytes > kMaxGroupBytes)
    base::misuse("simt", "threadgroup arguments of " + std::to_string(bytes) +
                             " bytes: Metal allows 32768 bytes of threadgroup memory");
}

// The groups in the order asked for: a permutation of 0 .. count - 1.
class GroupOrder {
 public:
  GroupOrder(uint64_t count, const LaunchOptions& options) : count_(count), order_(options.order) {
    if (order_ == ThreadOrder::random) {
      base::Random random(options.seed ^ 0x9e3779b97f4a7c15ull);
      start_ = random.below(count);
    }
  }
  uint64_t at(uint64_t i) const {
    if (order_ == ThreadOrder::reverse) return count_ - 1 - i;
    return order_ == ThreadOrder::random ? (i + start_) % count_ : i;
  }

 private:
  uint64_t count_;
  ThreadOrder order_;
  uint64_t start_ = 0;
};

struct Shared {
  std::atomic<uint64_t> next{0};
  std::atomic<bool> failed{false};
  std::mutex mutex;  // of the report
  LaunchReport report;
};

bool run_chunk(const Job& job, Worker& worker, const GroupOrder& order, uint64_t first,
               uint64_t last) {
  if (worker.loops()) return worker.run_loops(first, last);
  const auto spent = [&] {
    return job.options.budget_s > 0 && base::seconds_since(job.start) > job.options.budget_s;
  };
  for (uint64_t i = first; i < last && !job.stop && !(job.groups_run > 0 && spent()); ++i) {
    if (!worker.run(order.at(i))) return false;
    ++job.groups_run;
  }
  return true;
}

void work(const Job& job, uint64_t count, const GroupOrder& order, Shared& shared, Watchdog& dog) {
  const FaultGuard guard;
  Worker worker(job);
  const Watchdog::Watched watched(dog);
  const uint64_t chunk = std::max<uint64_t>(1, count / 64);
  while (!shared.failed && !job.stop) {
    const uint64_t first = shared.next.fetch_add(chunk);
    if (first >= count) break;
    if (!run_chunk(job, worker, order, first, std::min(first + chunk, count))) shared.failed = true;
  }
  const std::lock_guard<std::mutex> lock(shared.mutex);
  LaunchReport& report = shared.report;
  if (worker.fault() && report.fault.empty()) report.fault = worker.fault();
  if (worker.divergent_barrier_site() >= 0)
    report.divergent_barrier_site = worker.divergent_barrier_site();
  if (worker.divergent_simd_site() >= 0) report.divergent_simd_site = worker.divergent_simd_site();
}

void runtime_barrier(int site, int kind, int flags) {
  current_worker()->barrier(site, kind, flags);
}
void runtime_meet(int site, int width, const void* in, void* out, kd_combine combine) {
  current_worker()->meet(site, width, in, out, combine);
}
void* runtime_shared(unsigned slot, unsigned long bytes, unsigned long alignment) {
  return current_worker()->shared(slot, bytes, alignment);
}
unsigned runtime_lane() {
  return current_worker()->self().index & 31u;
}
const kd_thread* runtime_self() {
  return &current_worker()->self();
}
void runtime_touch(const void* address, unsigned long bytes, int kind, const void* code) {
  Worker* worker = current_worker();
  if (worker && worker->monitor()) worker->touch(address, bytes, kind, code);
}

}  // namespace

const kd_runtime* runtime() {
  static constexpr kd_runtime one = {runtime_barrier, runtime_meet, runtime_shared,
                                     runtime_lane,    runtime_self, runtime_touch};
  return &one;
}

LaunchReport launch(const Entry& entry, const std::vector<void*>& buffers,
                    const std::vector<size_t>& group_bytes, Size3 grid, Size3 group,
                    const LaunchOptions& options) {
  check_sizes(grid, group, group_bytes);
  Job job{entry, buffers, group_bytes, grid, group, {}, options, base::steady_ns()};
  uint64_t count = 1;
  for (int d = 0; d < 3; ++d) {
    job.group[d] = std::min(group[d], grid[d]);
    job.groups[d] = (grid[d] - 1) / job.group[d] + 1;
    if (count > (uint64_t{1} << 40) / job.groups[d])
      base::misuse("simt", "the grid has more than 2^40 threadgroups");
    count *= job.groups[d];
  }
  const bool wide = grid[0] > kMaxLoopGrid || grid[1] > kMaxLoopGrid || grid[2] > kMaxLoopGrid;
  if (options.monitor || wide || options.order != ThreadOrder::forward) job.options.fibers = true;
  int cores =
      options.cores > 0 ? options.cores : static_cast<int>(std::thread::hardware_concurrency());
  if (options.monitor) cores = 1;
  cores = static_cast<int>(std::min<uint64_t>(std::max(cores, 1), count));
  const int64_t start = base::steady_ns();
  Shared shared;
  const GroupOrder order(count, options);
  {
    Watchdog dog(options.timeout_s, job.stop);
    std::vector<std::jthread> helpers;
    for (int i = 1; i < cores; ++i)
      helpers.emplace_back([&] { work(job, count, order, shared, dog); });
    work(job, count, order, shared, dog);
  }
  shared.report.groups = job.groups_run;
  shared.report.timed_out = job.stop;
  shared.report.seconds = base::seconds_since(start);
  return shared.report;
}

}  // namespace mlx_kd::devices::simt
