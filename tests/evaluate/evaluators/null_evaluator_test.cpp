#include <gtest/gtest.h>

#include "tests/evaluate/candidates.h"

namespace mlx_kd::evaluate {
namespace {

std::unique_ptr<Evaluator> null_evaluator() {
  return make_evaluator({&kernels::find_op("rmsnorm"), "null", spec::Dtype::float32, small_sizes()},
                        {});
}

std::vector<spec::Candidate> candidates(int count) {
  const auto device = devices::open_device("null");
  return sample_candidates(kernels::find_op("rmsnorm"), device->languages(), device->id().traits,
                           spec::Dtype::float32, small_sizes().front(), count, 5);
}

TEST(NullEvaluator, SameCandidatesGiveTheSameVerdicts) {
  const auto batch = candidates(60);
  ASSERT_GT(batch.size(), 30u);
  const auto a = verdicts(*null_evaluator(), batch), b = verdicts(*null_evaluator(), batch);
  size_t benchmarked = 0;
  for (size_t i = 0; i < batch.size(); ++i) {
    EXPECT_EQ(a[i].status, b[i].status);
    EXPECT_EQ(to_json(a[i].metrics), to_json(b[i].metrics));
    benchmarked += a[i].status == spec::Status::benchmarked;
  }
  EXPECT_GT(benchmarked, batch.size() / 2);
}

TEST(NullEvaluator, AnAdoptedIncumbentGoesOnWhereTheRunStopped) {
  const auto batch = candidates(60);
  const auto whole = verdicts(*null_evaluator(), batch);
  const auto resumed = null_evaluator();
  for (size_t i = 0; i < batch.size(); ++i) {
    if (whole[i].status != spec::Status::benchmarked) continue;
    std::vector<double> log_ratios;
    for (const auto& size : whole[i].sizes) log_ratios.push_back(size.metrics.log_ratio);
    resumed->adopt(batch[0], batch[i], log_ratios);
  }
  const auto rest = verdicts(*resumed, batch);
  for (size_t i = 0; i < batch.size(); ++i) {
    if (whole[i].status != spec::Status::benchmarked) continue;
    EXPECT_NEAR(rest[i].objective, whole[i].objective, 1e-9);
  }
}

TEST(NullEvaluator, ItsProtocolIsNull) {
  const auto evaluator = null_evaluator();
  EXPECT_EQ(evaluator->protocol_name(), "null");
  EXPECT_EQ(evaluator->runtime().at("device_name"), "null");
  EXPECT_EQ(evaluator->aa().size(), 2u);
}

TEST(NullEvaluator, ClaimsHoldAnIntervalRoundTheRatio) {
  const auto evaluator = null_evaluator();
  const auto batch = candidates(3);
  for (const Claim& claim : evaluator->claims({batch, batch})) {
    EXPECT_LT(claim.metrics.speedup_lo, claim.metrics.speedup_vs_ref);
    EXPECT_EQ(claim.claimed, claim.metrics.speedup_lo > 1);
    EXPECT_EQ(claim.reason.empty(), claim.claimed);
  }
}

}  // namespace
}  // namespace mlx_kd::evaluate
