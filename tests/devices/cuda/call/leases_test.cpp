// Who holds an array whose memory was taken over: without a GPU, what MLX holds is held by the
// test.
#include "mlx_kd/devices/cuda/call/leases.h"

#include <gtest/gtest.h>
#include <mlx/ops.h>
#include <mlx/transforms.h>

#include <optional>

namespace mlx_kd::devices::cuda {
namespace {

namespace mx = mlx::core;

NativeApi api_of_holders() {
  NativeApi api = {};
  api.holders = [](const mx::array& array) {
    return reinterpret_cast<const std::shared_ptr<void>&>(array).use_count();
  };
  return api;
}

// A cache from step to step, and the graph of the step before, as MLX keeps it.
class Leases : public testing::Test {
 protected:
  Leases() { mx::eval(cache_); }

  // The next step overwrites the cache; MLX then holds the mark and the new output.
  void step() {
    const auto mark = std::make_shared<const Mark>();
    held_.push_back(Mark::held_by(mark).data_shared_ptr());
    mx::array next(cache_.shape(), cache_.dtype(), nullptr, {});
    lease(cache_, next, mark, 1);
    held_.push_back(next.data_shared_ptr());
    cache_ = next;
  }
  // As MLX's thread does: in the order in which it was kept.
  void graph_is_done() {
    for (auto& one : held_) one.reset();
    held_.clear();
  }
  bool is_free() const { return is_held_by_graphs_alone(api_, cache_); }
  // Another array on the same memory, as a slice is.
  mx::array view() const {
    mx::array same(cache_.shape(), cache_.dtype(), nullptr, {});
    same.copy_shared_buffer(cache_);
    return same;
  }

  const NativeApi api_ = api_of_holders();
  mx::array cache_ = mx::zeros({8, 4}, mx::float32, mx::Device(mx::Device::cpu));
  std::vector<std::shared_ptr<mx::allocator::Data>> held_;
};

TEST_F(Leases, AnArrayThatNobodyElseHoldsIsFree) {
  EXPECT_TRUE(is_free());
  const mx::array other = view();
  EXPECT_FALSE(is_free());
}

TEST_F(Leases, WhatGraphsHoldIsFreeWhileTheyRunAndAfterwards) {
  const void* const memory = cache_.buffer().ptr();
  for (int i = 0; i < 5; ++i) {
    step();
    EXPECT_TRUE(is_free()) << i;
    EXPECT_EQ(cache_.buffer().ptr(), memory);
    if (i % 2 == 0) graph_is_done();
    EXPECT_TRUE(is_free()) << i;
  }
}

TEST_F(Leases, WhatAnotherArrayHoldsIsNotFree) {
  step();
  std::optional<mx::array> other = view();
  EXPECT_FALSE(is_free());
  graph_is_done();
  EXPECT_FALSE(is_free());
  other.reset();
  EXPECT_TRUE(is_free());
}

TEST_F(Leases, AnArrayInTwoPlacesIsNotFree) {
  step();
  const mx::array same = cache_;
  EXPECT_FALSE(is_free());
  graph_is_done();
  EXPECT_FALSE(is_free());
}

TEST_F(Leases, TheMemoryLivesUntilTheLastLeaseEnds) {
  bool is_freed = false;
  float numbers[4] = {1, 2, 3, 4};
  mx::array first({4}, mx::float32, nullptr, {});
  first.set_data(mx::allocator::Data(mx::allocator::Buffer(numbers),
                                     [&is_freed](mx::allocator::Buffer) { is_freed = true; }));
  cache_ = first;
  first = mx::array(0.0f);
  step();
  step();
  EXPECT_FALSE(is_freed);
  graph_is_done();
  EXPECT_FALSE(is_freed);
  cache_ = mx::array(0.0f);
  EXPECT_TRUE(is_freed);
}

}  // namespace
}  // namespace mlx_kd::devices::cuda
