#include "mlx_kd/devices/host/thread_pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <mutex>
#include <numeric>
#include <set>
#include <thread>
#include <vector>

namespace mlx_kd::devices::cpu {
namespace {

// Adds one to each unit it is given.
struct Counts {
  explicit Counts(int64_t units) : of_unit(static_cast<size_t>(units), 0) {}
  std::vector<int> of_unit;
  bool each_is(int wanted) const {
    for (const int count : of_unit)
      if (count != wanted) return false;
    return true;
  }
};

void count(const void* context, int64_t begin, int64_t end) {
  auto* counts = static_cast<Counts*>(const_cast<void*>(context));
  for (int64_t i = begin; i < end; ++i) ++counts->of_unit[static_cast<size_t>(i)];
}

TEST(ThreadPool, DoesEachUnitOnceWhateverTheGrainAndThreads) {
  ThreadPool pool(4);
  for (const int64_t units : {1, 2, 7, 64, 1000})
    for (const int64_t grain : {0, 1, 3, 64, 5000})
      for (const int threads : {1, 2, 3, 4, 100}) {
        Counts counts(units);
        pool.run(threads, units, grain, count, &counts);
        EXPECT_TRUE(counts.each_is(1)) << units << " " << grain << " " << threads;
      }
}

TEST(ThreadPool, DoesNothingForNoUnits) {
  ThreadPool pool(2);
  const auto never = [](const void*, int64_t, int64_t) { ADD_FAILURE() << "called"; };
  pool.run(2, 0, 1, never, nullptr);
}

TEST(ThreadPool, ManyCallersAtOnceEachGetTheirOwnWorkDone) {
  ThreadPool pool(3);
  std::vector<std::thread> callers;
  std::atomic<int> wrong{0};
  for (int caller = 0; caller < 4; ++caller)
    callers.emplace_back([&] {
      for (int call = 0; call < 300; ++call) {
        Counts counts(1 + call % 50);
        pool.run(3, static_cast<int64_t>(counts.of_unit.size()), 1 + call % 3, count, &counts);
        if (!counts.each_is(1)) ++wrong;
      }
    });
  for (auto& caller : callers) caller.join();
  EXPECT_EQ(wrong, 0);
}

TEST(ThreadPool, NeverUsesMoreThreadsThanAsked) {
  struct Seen {
    std::mutex mutex;
    std::set<std::thread::id> threads;
  };
  const auto note = [](const void* context, int64_t, int64_t) {
    auto* seen = static_cast<Seen*>(const_cast<void*>(context));
    {
      std::lock_guard lock(seen->mutex);
      seen->threads.insert(std::this_thread::get_id());
    }
    std::this_thread::yield();
  };
  ThreadPool pool(4);
  for (int call = 0; call < 20; ++call) {
    Seen seen;
    pool.run(1 + call % 4, 16, 1, note, &seen);
    EXPECT_LE(seen.threads.size(), static_cast<size_t>(1 + call % 4));
  }
}

TEST(ThreadPool, WakesAllItsWorkersWhenTheyAreNeeded) {
  // Ends only if four threads are in the task at once.
  const auto meet = [](const void* context, int64_t, int64_t) {
    auto* met = static_cast<std::atomic<int>*>(const_cast<void*>(context));
    ++*met;
    while (*met < 4) std::this_thread::yield();
  };
  ThreadPool pool(4);
  std::atomic<int> met{0};
  pool.run(4, 4, 1, meet, &met);
  EXPECT_EQ(met, 4);
}

TEST(ThreadPool, ATaskMayCallThePoolAgain) {
  static ThreadPool pool(2);
  struct Nested {
    Counts counts{10};
    std::mutex mutex;
  };
  const auto nest = [](const void* context, int64_t, int64_t) {
    auto* nested = static_cast<Nested*>(const_cast<void*>(context));
    Counts inner(10);
    pool.run(2, 10, 1, count, &inner);
    std::lock_guard lock(nested->mutex);
    for (size_t i = 0; i < 10; ++i) nested->counts.of_unit[i] += inner.of_unit[i];
  };
  Nested nested;
  pool.run(2, 5, 1, nest, &nested);
  EXPECT_TRUE(nested.counts.each_is(5));
}

}  // namespace
}  // namespace mlx_kd::devices::cpu
