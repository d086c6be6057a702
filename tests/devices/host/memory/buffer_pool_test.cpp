#include "mlx_kd/devices/host/memory/buffer_pool.h"

#include <gtest/gtest.h>

#include <thread>

namespace mlx_kd::devices::cpu {
namespace {

TEST(BufferPool, GivesBackTheSameMemoryForTheSameSize) {
  BufferPool pool(8 << 20);
  auto buffer = pool.take(1 << 20);
  const void* place = buffer.raw_ptr();
  pool.give_back(buffer);
  EXPECT_GE(pool.held_bytes(), size_t(1) << 20);
  auto again = pool.take((1 << 20) - 1000);
  EXPECT_EQ(again.raw_ptr(), place);
  EXPECT_EQ(pool.held_bytes(), 0u);
  pool.give_back(again);
}

TEST(BufferPool, DoesNotSpendALargeBufferOnASmallOne) {
  BufferPool pool(8 << 20);
  auto large = pool.take(4 << 20);
  const void* place = large.raw_ptr();
  pool.give_back(large);
  auto small = pool.take(1 << 20);
  EXPECT_NE(small.raw_ptr(), place);
  pool.give_back(small);
}

TEST(BufferPool, HoldsNoMoreThanItsLimit) {
  BufferPool pool(3 << 20);
  std::vector<mlx::core::allocator::Buffer> buffers;
  for (int i = 0; i < 6; ++i) buffers.push_back(pool.take(1 << 20));
  for (auto buffer : buffers) pool.give_back(buffer);
  EXPECT_LE(pool.held_bytes(), size_t(3) << 20);
  EXPECT_GT(pool.held_bytes(), size_t(1) << 20);
}

TEST(BufferPool, ALimitOfZeroKeepsNothing) {
  BufferPool pool(0);
  pool.give_back(pool.take(1 << 20));
  EXPECT_EQ(pool.held_bytes(), 0u);
}

TEST(BufferPool, SeveralThreadsNeverShareABuffer) {
  BufferPool pool(8 << 20);
  std::vector<std::thread> threads;
  std::atomic<int> wrong{0};
  for (int id = 0; id < 4; ++id)
    threads.emplace_back([&, id] {
      for (int i = 0; i < 200; ++i) {
        auto buffer = pool.take(1 << 20);
        auto* mark = static_cast<volatile int*>(buffer.raw_ptr());
        *mark = id;
        std::this_thread::yield();
        if (*mark != id) ++wrong;
        pool.give_back(buffer);
      }
    });
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
}

}  // namespace
}  // namespace mlx_kd::devices::cpu
