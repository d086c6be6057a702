#include "mlx_kd/devices/host/memory/recycled.h"

#include <gtest/gtest.h>

#include <memory>
#include <thread>
#include <vector>

namespace mlx_kd::devices {
namespace {

struct Counted {
  explicit Counted(int* count) : ended(count) {}
  ~Counted() { ++*ended; }
  int* ended;
  std::array<char, 200> rest = {};
};

TEST(Recycled, ABlockThatWasGivenBackIsTheNextOne) {
  RecycledMemory<Counted> memory;
  Counted* const first = memory.allocate(1);
  Counted* const second = memory.allocate(1);
  memory.deallocate(first, 1);
  memory.deallocate(second, 1);
  EXPECT_EQ(memory.allocate(1), second);
  EXPECT_EQ(memory.allocate(1), first);
  memory.deallocate(first, 1);
  memory.deallocate(second, 1);
}

TEST(Recycled, ObjectsEndOnceWhicheverThreadLetsThemGo) {
  std::vector<std::thread> threads;
  std::vector<int> ended(4);
  for (int& count : ended)
    threads.emplace_back([&count] {
      for (int round = 0; round < 20; ++round) {
        std::vector<std::shared_ptr<Counted>> made;
        for (int i = 0; i < 500; ++i)
          made.push_back(std::allocate_shared<Counted>(RecycledMemory<Counted>(), &count));
        std::thread([last = std::move(made)]() mutable { last.clear(); }).join();
      }
    });
  for (std::thread& thread : threads) thread.join();
  for (const int count : ended) EXPECT_EQ(count, 20 * 500);
}

}  // namespace
}  // namespace mlx_kd::devices
