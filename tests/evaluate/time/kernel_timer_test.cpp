// What both sides of a pair have in common, seen by programs that count their calls.
#include "mlx_kd/evaluate/time/kernel_timer.h"

#include <gtest/gtest.h>
#include <mlx/array.h>

#include <algorithm>
#include <chrono>
#include <thread>

#include "mlx_kd/base/error.h"
#include "mlx_kd/evaluate/protocol.h"
#include "mlx_kd/evaluate/time/statistics.h"
#include "mlx_kd/kernels/op_table.h"

namespace mlx_kd::evaluate {
namespace {

constexpr int kPairs = 9;

// Writes down who is called, one letter a call.
class Counting : public devices::Program {
 public:
  Counting(char name, int us, std::string& calls) : name_(name), us_(us), calls_(calls) {}

  void launch(const std::vector<const void*>&, const std::vector<void*>&,
              const devices::Call&) const override {
    calls_ += name_;
    std::this_thread::sleep_for(std::chrono::microseconds(us_));
  }
  std::vector<mlx::core::array> call(const std::vector<mlx::core::array>&,
                                     const std::vector<spec::Shape>&,
                                     const devices::Call&) const override {
    base::fail("tests", "not a kernel for arrays");
  }

 private:
  char name_;
  int us_;
  std::string& calls_;
};

// Lengths of the runs of one letter, the last ones.
std::vector<size_t> last_runs(const std::string& calls, size_t count) {
  std::vector<size_t> runs;
  for (size_t i = 0; i < calls.size(); ++i)
    if (i > 0 && calls[i] == calls[i - 1])
      ++runs.back();
    else
      runs.push_back(1);
  return {runs.end() - static_cast<std::ptrdiff_t>(std::min(count, runs.size())), runs.end()};
}

class KernelTimer : public testing::Test {
 protected:
  KernelTimes pairs(int candidate_us, int incumbent_us) {
    const Counting candidate('c', candidate_us, calls), incumbent('i', incumbent_us, calls);
    const Timed mine{&candidate, {}}, theirs{&incumbent, {}};
    base::Random random(7);
    return time_fixed(mine, &theirs, kPairs, buffers, protocol, random);
  }

  const spec::Op& op = kernels::find_op("rmsnorm");
  const spec::Dims dims = {{"rows", 1}, {"D", 64}};
  Protocol protocol = protocol_for({});
  const CasePlan plan =
      plan_cases(op, spec::Dtype::float32, {dims}, spec::default_scalars(op), protocol);
  const std::vector<std::byte> memory{static_cast<size_t>(plan.bytes)};
  TimingBuffers buffers{op,
                        spec::Dtype::float32,
                        dims,
                        plan.cases[plan.timed[0]],
                        memory.data(),
                        1 << 20,
                        {1e3, 1e3, 0},
                        protocol,
                        nullptr};
  std::string calls;
};

TEST_F(KernelTimer, BothSidesOfAPairMakeAsManyCalls) {
  protocol.sample_us = 20e3;  // longer than a busy machine takes a core away
  pairs(200, 1500);
  // Where one pair ends with the side that the next begins with, a run holds two samples.
  const auto runs = last_runs(calls, kPairs);
  const size_t sample = *std::min_element(runs.begin(), runs.end());
  EXPECT_GT(sample, 1u) << calls;
  for (size_t run : runs) EXPECT_TRUE(run == sample || run == 2 * sample) << run << ' ' << calls;
}

TEST_F(KernelTimer, ALogRatioIsNegativeWhereTheCandidateIsFaster) {
  const auto faster = pairs(20, 4000), slower = pairs(4000, 20);
  ASSERT_EQ(faster.log_ratios.size(), size_t(kPairs));
  EXPECT_LT(median(faster.log_ratios), -0.5);
  EXPECT_GT(median(slower.log_ratios), 0.5);
  EXPECT_GT(pairs_won({faster}), kPairs / 2);
  EXPECT_LT(pairs_won({slower}), kPairs / 2);
}

// Samples of one call each: a letter a sample.
TEST_F(KernelTimer, TheOrderWithinAPairIsRandom) {
  protocol.sample_us = 1;
  pairs(50, 50);
  const std::string paired = calls.substr(calls.size() - 2 * kPairs);
  size_t candidate_first = 0;
  for (size_t i = 0; i < paired.size(); i += 2) {
    EXPECT_NE(paired[i], paired[i + 1]) << paired;
    candidate_first += paired[i] == 'c';
  }
  EXPECT_GT(candidate_first, 0u);
  EXPECT_LT(candidate_first, size_t(kPairs));
}

}  // namespace
}  // namespace mlx_kd::evaluate
