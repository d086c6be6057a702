// Operations of ours as one operation in MLX's graphs, and memory that is taken over from call to
// call. All need a GPU and the native module.
#include "mlx_kd/devices/cuda/call/native_group.h"

#include <mlx/ops.h>
#include <mlx/transforms.h>

#include <optional>

#include "tests/devices/cuda/cuda_kernels.h"
#include "tests/devices/cuda/refusals.h"

namespace mlx_kd::devices::cuda {
namespace {

namespace mx = mlx::core;

class NativeGroups : public testing::Test {
 protected:
  void SetUp() override {
    KD_NEEDS_NATIVE();
    mx::set_default_device(mx::Device::gpu);
    steps_ = load(steps_candidate());
    put_ = load(put_candidate());
  }
  void TearDown() override { mx::set_default_device(mx::Device::cpu); }

  static GraphCall on_default_stream() { return {mx::default_stream(mx::Device::gpu)}; }
  // x + stages
  mx::array plus(const mx::array& x, int64_t stages) const {
    const auto count = static_cast<int64_t>(x.size());
    return steps_->add_to_graph({x}, {x.shape()}, steps_call(count, stages),
                                on_default_stream())[0];
  }
  // A cache of 64 rows of 32 with the row in place `at`.
  mx::array with_row(const mx::array& cache, const mx::array& row, int at) const {
    return put_->add_to_graph({cache, row}, {cache.shape()}, put_call(64, 32, at),
                              on_default_stream())[0];
  }
  // {row + 1, the cache with the row + 1 in place `at`}
  std::vector<mx::array> stepped(const mx::array& cache, const mx::array& row, int at) const {
    const mx::array next = plus(row, 1);
    const std::vector<mx::array> lazy = {plus(next, 1), with_row(cache, next, at)};
    const auto group = native_group({cache, row}, lazy);
    if (!group) {
      ADD_FAILURE() << "no group was made";
      return lazy;
    }
    return group->call({cache, row});
  }
  static bool equal(const mx::array& a, const mx::array& b) {
    return mx::array_equal(a, b).item<bool>();
  }

  std::unique_ptr<StageProgram> steps_, put_;
};

TEST_F(NativeGroups, AreOneOperation) {
  const mx::array x = mx::arange(64.0f), z = mx::arange(100.0f, 164.0f);
  const mx::array y = plus(mx::reshape(plus(x, 3), {8, 8}), 2);
  const auto group = native_group({x}, {y});
  ASSERT_TRUE(group);
  const mx::array made = group->call({z})[0];
  EXPECT_EQ(made.inputs().size(), 1u);
  EXPECT_EQ(made.inputs()[0].id(), z.id());
  EXPECT_TRUE(equal(made, mx::reshape(mx::add(z, mx::array(5.0f)), {8, 8})));
  EXPECT_TRUE(equal(mx::exp(group->call({mx::negative(x)})[0]),
                    mx::exp(mx::reshape(mx::subtract(mx::array(5.0f), x), {8, 8}))));
}

TEST_F(NativeGroups, AreNotMadeOfOperationsOfMlx) {
  const mx::array x = mx::arange(64.0f);
  EXPECT_FALSE(native_group({x}, {plus(mx::exp(plus(x, 1)), 1)}));
  EXPECT_FALSE(native_group({x}, {mx::reshape(plus(x, 1), {8, 8})}));
  EXPECT_FALSE(native_group({x}, {}));
}

TEST_F(NativeGroups, WriteACacheInPlaceWhileTheStepBeforeRuns) {
  mx::array cache = mx::zeros({64, 32}), row = mx::full({32}, 0.0f);
  mx::eval(cache, row);
  mx::synchronize();
  const void* const memory = cache.buffer().ptr();
  for (int at = 0; at < 32; ++at) {
    const auto made = stepped(cache, row, at);
    row = made[0];
    cache = made[1];
    mx::async_eval(row, cache);
    ASSERT_EQ(cache.buffer().ptr(), memory) << at;
  }
  const mx::array expected = mx::reshape(mx::arange(1.0f, 64.0f, 2.0f), {32, 1});
  EXPECT_TRUE(equal(mx::slice(cache, {0, 0}, {32, 32}), mx::broadcast_to(expected, {32, 32})));
}

TEST_F(NativeGroups, CopyACacheThatSomebodyStillHolds) {
  mx::array cache = mx::zeros({64, 32});
  const mx::array row = mx::full({32}, 6.0f);
  mx::eval(cache, row);
  for (int at = 0; at < 4; ++at) {
    cache = stepped(cache, row, at)[1];
    mx::async_eval(cache);
  }
  const mx::array held = cache, view = mx::slice(cache, {0, 0}, {8, 32});
  mx::async_eval(view);
  const mx::array other = stepped(cache, mx::full({32}, 1.0f), 2)[1];
  mx::async_eval(other);
  EXPECT_NE(other.buffer().ptr(), held.buffer().ptr());
  EXPECT_TRUE(equal(mx::slice(held, {0, 0}, {4, 32}), mx::full({4, 32}, 7.0f)));
  EXPECT_TRUE(equal(mx::slice(view, {2, 0}, {3, 32}), mx::full({1, 32}, 7.0f)));
  EXPECT_TRUE(equal(mx::slice(other, {2, 0}, {3, 32}), mx::full({1, 32}, 2.0f)));
  EXPECT_TRUE(equal(mx::slice(other, {3, 0}, {4, 32}), mx::full({1, 32}, 7.0f)));
}

TEST_F(NativeGroups, HoldWhatIsThereAlready) {
  const mx::array cache = mx::zeros({64, 32});
  mx::array row = mx::full({32}, 3.0f);
  mx::eval(cache, row);
  mx::synchronize();
  const auto group = native_group({cache, row}, {with_row(cache, row, 5)});
  ASSERT_TRUE(group);
  mx::array made = group->call({cache, row})[0];
  EXPECT_EQ(made.inputs().size(), 1u);
  row = mx::zeros({1});  // the operation alone holds it now
  mx::async_eval(made);
  EXPECT_TRUE(equal(mx::slice(made, {5, 0}, {6, 32}), mx::full({1, 32}, 3.0f)));
  EXPECT_TRUE(equal(mx::slice(made, {6, 0}, {7, 32}), mx::zeros({1, 32})));
  const mx::array later = group->call({cache, mx::negative(mx::full({32}, 4.0f))})[0];
  EXPECT_EQ(later.inputs().size(), 2u);
  EXPECT_TRUE(equal(mx::slice(later, {5, 0}, {6, 32}), mx::full({1, 32}, -4.0f)));
  EXPECT_TRUE(equal(cache, mx::zeros({64, 32})));
}

TEST_F(NativeGroups, RefuseToUpdateWhatTheyMadeThemselves) {
  const mx::array x = mx::zeros({64, 32}), row = mx::full({32}, 1.0f);
  EXPECT_FALSE(native_group({x, row}, {with_row(plus(x, 1), row, 3)}));
}

}  // namespace
}  // namespace mlx_kd::devices::cuda
