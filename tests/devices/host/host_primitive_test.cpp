// Outputs that update an input: when its memory is taken over, and what others see then.
#include "mlx_kd/devices/host/host_primitive.h"

#include <gtest/gtest.h>
#include <mlx/mlx.h>

#include <future>
#include <numeric>
#include <thread>

#include "mlx/scheduler.h"

namespace mlx_kd::devices::cpu {
namespace {

namespace mx = mlx::core;
using Arrays = std::vector<mx::array>;

constexpr int kSmall = 64, kLarge = 1 << 15;  // floats

// Inputs first, second and row; the outputs are the first two with row[0] at `place`.
class TestAppend final : public HostPrimitive {
 public:
  TestAppend(const mx::Stream& stream, const Arrays& inputs, int place)
      : HostPrimitive(GraphCall{stream}, inputs, {inputs[0].shape(), inputs[1].shape()}),
        place_(place) {}
  const char* name() const override { return "TestAppend"; }

 private:
  void run(const Pointers& pointers, const Strides*) const override {
    const float row = *static_cast<const float*>(pointers[2]);
    for (const size_t output : {3, 4}) static_cast<float*>(pointers[output])[place_] = row;
  }
  int updated_input(size_t output) const override { return static_cast<int>(output); }
  std::span<const double> params() const override { return {}; }

  const int place_;
};

// The sum of an array, as one of our operators.
class TestSum final : public HostPrimitive {
 public:
  TestSum(const mx::Stream& stream, const Arrays& inputs)
      : HostPrimitive(GraphCall{stream}, inputs, {{1}}), count_(inputs[0].size()) {}
  const char* name() const override { return "TestSum"; }

 private:
  void run(const Pointers& pointers, const Strides*) const override {
    const auto* const from = static_cast<const float*>(pointers[0]);
    *static_cast<float*>(pointers[1]) = std::accumulate(from, from + count_, 0.0f);
  }
  std::span<const double> params() const override { return {}; }

  const size_t count_;
};

Arrays append(const mx::Stream& stream, const Arrays& cache, float value, int place) {
  const Arrays inputs = {cache[0], cache[1], mx::array(value)};
  return mx::array::make_arrays({cache[0].shape(), cache[1].shape()}, {mx::float32, mx::float32},
                                std::make_shared<TestAppend>(stream, inputs, place), inputs);
}

mx::array sum_of(const mx::Stream& stream, const mx::array& x) {
  return mx::array({1}, mx::float32, std::make_shared<TestSum>(stream, Arrays{x}), {x});
}

Arrays zeros(const mx::Stream& stream, int size) {
  Arrays made = {mx::zeros({size}, mx::float32, stream), mx::zeros({size}, mx::float32, stream)};
  mx::eval(made);
  return made;
}

std::vector<const void*> places(const Arrays& cache) {
  return {cache[0].buffer().ptr(), cache[1].buffer().ptr()};
}

std::vector<float> numbers(mx::array x, int count) {
  mx::eval(x);
  return {x.data<float>(), x.data<float>() + count};
}

// Blocks a stream's thread until go(), so that what is queued meanwhile stays queued. It gives up
// after five seconds, which shows that something waited for the stream.
class Standing {
 public:
  explicit Standing(const mx::Stream& stream) : stream_(stream) {
    mx::synchronize(stream);
    mx::scheduler::enqueue(stream, [this, gate = gate_.get_future().share()] {
      was_waited_for_ = gate.wait_for(std::chrono::seconds(5)) != std::future_status::ready;
    });
  }
  ~Standing() { go(); }
  // Whether nothing waited for the stream.
  bool go() {
    if (!is_open_) gate_.set_value();
    is_open_ = true;
    mx::synchronize(stream_);
    return !was_waited_for_;
  }

 private:
  const mx::Stream stream_;
  std::promise<void> gate_;
  bool is_open_ = false, was_waited_for_ = false;
};

// Appends in graphs of their own, of which a reader is evaluated, as a token is that attends to a
// cache; nothing is waited for. (MLX's task behind an evaluation holds what was asked for.)
void append_queued(const mx::Stream& stream, Arrays& cache, int from, int to) {
  for (int i = from; i < to; ++i) {
    Arrays next = append(stream, cache, static_cast<float>(i + 1), i);
    cache = std::move(next);
    mx::async_eval(sum_of(stream, cache[static_cast<size_t>(i % 2)]));
  }
}

class TakenOver : public testing::TestWithParam<int> {
 protected:
  const mx::Stream stream_ = mx::new_stream(mx::Device::cpu);
  Arrays cache_ = zeros(stream_, GetParam());
};

TEST_P(TakenOver, AChainInOneGraphStaysWhereItIs) {
  const auto before = places(cache_);
  for (int i = 0; i < 50; ++i)
    cache_ = append(stream_, Arrays(std::move(cache_)), static_cast<float>(i), i);
  mx::eval(cache_);
  if (GetParam() == kLarge) {  // of a small one a copy costs less than to wait
    EXPECT_EQ(places(cache_), before);
  }
  for (const mx::array& one : cache_) EXPECT_EQ(numbers(one, 50)[49], 49);
}

TEST_P(TakenOver, WhileTheAppendsBeforeAreStillQueued) {
  const auto before = places(cache_);
  Standing standing(stream_);
  append_queued(stream_, cache_, 0, 8);
  EXPECT_EQ(places(cache_), before);
  EXPECT_TRUE(standing.go());
  for (const mx::array& one : cache_)
    EXPECT_EQ(numbers(one, 9), (std::vector<float>{1, 2, 3, 4, 5, 6, 7, 8, 0}));
}

TEST_P(TakenOver, WhileOurReadersAreStillQueuedAndSeeWhatWasThere) {
  append_queued(stream_, cache_, 0, 1);
  const auto before = places(cache_);
  Standing standing(stream_);
  Arrays sums;
  for (int i = 1; i < 6; ++i) {
    for (const mx::array& one : Arrays(cache_)) sums.push_back(sum_of(stream_, one));
    mx::async_eval(sums);
    append_queued(stream_, cache_, i, i + 1);
  }
  EXPECT_EQ(places(cache_), before);
  EXPECT_TRUE(standing.go());
  for (size_t i = 0; i < sums.size(); ++i) {
    const auto turn = static_cast<float>(i / 2 + 1);
    EXPECT_EQ(numbers(sums[i], 1)[0], turn * (turn + 1) / 2) << i;
  }
}

TEST_P(TakenOver, AnArrayThatSomebodyHoldsStaysAsItIs) {
  for (int which : {0, 1}) {
    append_queued(stream_, cache_, 0, 2);
    const mx::array held = cache_[static_cast<size_t>(which)];
    append_queued(stream_, cache_, 2, 4);
    EXPECT_NE(places(cache_)[static_cast<size_t>(which)], held.buffer().ptr());
    EXPECT_EQ(numbers(held, 4), (std::vector<float>{1, 2, 0, 0}));
    EXPECT_EQ(numbers(cache_[static_cast<size_t>(which)], 4), (std::vector<float>{1, 2, 3, 4}));
    cache_ = zeros(stream_, GetParam());
  }
}

TEST_P(TakenOver, AViewOfWhatWasThereStaysAsItIs) {
  for (int which : {0, 1}) {
    append_queued(stream_, cache_, 0, 2);
    const mx::array view = mx::slice(cache_[static_cast<size_t>(which)], {0}, {4}, stream_);
    mx::async_eval(view);
    append_queued(stream_, cache_, 2, 4);
    EXPECT_EQ(numbers(view, 4), (std::vector<float>{1, 2, 0, 0}));
    EXPECT_EQ(numbers(cache_[static_cast<size_t>(which)], 4), (std::vector<float>{1, 2, 3, 4}));
    cache_ = zeros(stream_, GetParam());
  }
}

TEST_P(TakenOver, AViewIsSeenWhileTheAppendBeforeHoldsTheSameMemory) {
  if (GetParam() != kSmall) GTEST_SKIP() << "a large one is waited for";
  append_queued(stream_, cache_, 0, 1);
  Standing standing(stream_);
  append_queued(stream_, cache_, 1, 2);
  Arrays views;
  for (const mx::array& one : Arrays(cache_)) {
    mx::array view(one.shape(), one.dtype(), nullptr, {});
    view.copy_shared_buffer(one);
    view.set_status(mx::array::Status::available);
    views.push_back(view);
  }
  const auto before = places(cache_);
  append_queued(stream_, cache_, 2, 3);
  EXPECT_NE(places(cache_)[0], before[0]);
  EXPECT_NE(places(cache_)[1], before[1]);
  EXPECT_TRUE(standing.go());
  for (const mx::array& view : views) EXPECT_EQ(numbers(view, 3), (std::vector<float>{1, 2, 0}));
  for (const mx::array& one : cache_) EXPECT_EQ(numbers(one, 3), (std::vector<float>{1, 2, 3}));
}

TEST_P(TakenOver, MlxsReadersAreWaitedForOrCopiedAwayFrom) {
  append_queued(stream_, cache_, 0, 2);
  const auto before = places(cache_);
  const Arrays sums = {mx::sum(cache_[0], stream_), mx::sum(cache_[1], stream_)};
  mx::async_eval(sums);
  append_queued(stream_, cache_, 2, 3);
  if (GetParam() == kLarge) {
    EXPECT_EQ(places(cache_), before);
  }
  for (const mx::array& sum : sums) EXPECT_EQ(numbers(sum, 1)[0], 3);
  for (const mx::array& one : cache_) EXPECT_EQ(numbers(one, 3), (std::vector<float>{1, 2, 3}));
}

TEST_P(TakenOver, AReaderOnAnotherStreamSeesWhatWasThere) {
  const mx::Stream other = mx::new_stream(mx::Device::cpu);
  append_queued(stream_, cache_, 0, 2);
  mx::eval(cache_);
  Arrays sums;
  {
    Standing standing(other);
    sums = {sum_of(other, cache_[0]), sum_of(other, cache_[1])};
    mx::async_eval(sums);
    append_queued(stream_, cache_, 2, 3);
    mx::eval(cache_);
    EXPECT_TRUE(standing.go());
  }
  for (const mx::array& sum : sums) EXPECT_EQ(numbers(sum, 1)[0], 3);
  for (const mx::array& one : cache_) EXPECT_EQ(numbers(one, 3), (std::vector<float>{1, 2, 3}));
}

TEST_P(TakenOver, OneArrayTwiceIsCopied) {
  Arrays both = {cache_[0], cache_[0]};
  cache_.clear();
  for (int i = 0; i < 3; ++i) {
    append_queued(stream_, both, i, i + 1);
    EXPECT_NE(both[0].buffer().ptr(), both[1].buffer().ptr());
    both[1] = both[0];
  }
  EXPECT_EQ(numbers(both[1], 4), (std::vector<float>{1, 2, 3, 0}));
}

TEST_P(TakenOver, EightThreadsWithStreamsOfTheirOwn) {
  std::vector<std::thread> threads;
  std::array<std::vector<float>, 8> got;
  std::array<int, 8> moved{};
  for (size_t k = 0; k < got.size(); ++k)
    threads.emplace_back([&, k] {
      const mx::Stream own = mx::new_stream(mx::Device::cpu);
      Arrays cache = zeros(own, GetParam());
      append_queued(own, cache, 0, 1);
      const auto before = places(cache);
      for (int i = 1; i < 48; ++i) {
        const mx::array sum = sum_of(own, cache[static_cast<size_t>(i % 2)]);
        mx::async_eval(sum);
        append_queued(own, cache, i, i + 1);
        if (i % 16 == 15) got[k].push_back(numbers(sum, 1)[0]);
        moved[k] += places(cache) != before;
      }
      mx::eval(cache);
      mx::synchronize(own);
    });
  for (std::thread& thread : threads) thread.join();
  for (size_t k = 0; k < got.size(); ++k) {
    if (GetParam() == kLarge) {
      EXPECT_EQ(moved[k], 0);
    }
    EXPECT_EQ(got[k], (std::vector<float>{15 * 16 / 2, 31 * 32 / 2, 47 * 48 / 2})) << k;
  }
}

TEST_P(TakenOver, FromThreadToThread) {
  for (int i = 0; i < 10; ++i)
    std::thread([&] {
      const mx::Stream own = mx::new_stream(mx::Device::cpu);
      append_queued(own, cache_, 2 * i, 2 * i + 2);
      mx::eval(cache_);
      mx::synchronize(own);
    }).join();
  for (const mx::array& one : cache_)
    for (int i = 0; i < 20; ++i) EXPECT_EQ(numbers(one, 20)[static_cast<size_t>(i)], i + 1);
}

INSTANTIATE_TEST_SUITE_P(OfArrays, TakenOver, testing::Values(kSmall, kLarge),
                         [](const auto& size) { return size.param == kSmall ? "Small" : "Large"; });

}  // namespace
}  // namespace mlx_kd::devices::cpu
