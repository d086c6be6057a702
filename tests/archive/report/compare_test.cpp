#include "mlx_kd/archive/report/compare.h"

#include <gtest/gtest.h>

#include "tests/archive/synthetic_run.h"
#include "tests/archive/temporary_folder.h"

namespace mlx_kd::archive {
namespace {

TEST(Compare, FindsNoDifferenceOfARunToItself) {
  const RunData run = synthetic_run();
  const Comparison comparison = compare(run, run);
  ASSERT_EQ(comparison.sizes.size(), 4u);
  EXPECT_TRUE(comparison.differences.empty());
  for (const SizeComparison& size : comparison.sizes) {
    EXPECT_EQ(size.kernel.value, 1);
    EXPECT_TRUE(size.moved.empty());
    EXPECT_EQ(size.id_a, size.id_b);
  }
  EXPECT_NE(comparison_table(comparison).find("same winner"), std::string::npos);
}

TEST(Compare, GivesRatiosWithTheIntervalOfBothEstimates) {
  const RunData a = synthetic_run();
  RunData b = a;
  for (Claim& claim : b.finish->claims) {
    claim.metrics.kernel_us *= 0.5;
    claim.metrics.speedup_vs_ref *= 2;
    claim.metrics.speedup_lo *= 2;
    claim.metrics.speedup_hi *= 2;
  }
  const SizeComparison size = compare(a, b).sizes[0];
  EXPECT_DOUBLE_EQ(size.kernel.value, 0.5);
  EXPECT_TRUE(std::isnan(size.kernel.lo)) << "kernel times carry no interval";
  EXPECT_DOUBLE_EQ(size.speedup.value, 2);
  // Half-widths of 0.96 down and 1.05 up: sqrt(log(0.96)^2 + log(1.05)^2) either way.
  EXPECT_NEAR(size.speedup.lo, 2 * std::exp(-std::hypot(std::log(0.96), std::log(1.05))), 1e-9);
  EXPECT_NEAR(size.speedup.hi, 2 * std::exp(std::hypot(std::log(0.96), std::log(1.05))), 1e-9);
}

TEST(Compare, SaysWhatMoved) {
  const RunData a = synthetic_run(0), b = synthetic_run(1, 20);
  const Comparison comparison = compare(a, b);
  const SizeComparison& size = comparison.sizes[0];
  ASSERT_NE(size.id_a, size.id_b);
  ASSERT_FALSE(size.moved.empty());
  EXPECT_NE(size.moved[0].a, size.moved[0].b);
  EXPECT_EQ(comparison.differences, (std::vector<std::string>{"budget: 60 -> 20", "seed: 0 -> 1"}));
  EXPECT_NE(comparison_table(comparison).find(size.moved[0].knob), std::string::npos);
  EXPECT_EQ(comparison_json(comparison)["sizes"][0]["same_winner"], false);
}

TEST(Compare, TakesTheSameSizesInAnotherOrder) {
  const RunData a = synthetic_run();
  RunData b = a;
  std::reverse(b.meta.sizes.begin(), b.meta.sizes.end());
  for (const SizeComparison& size : compare(a, b).sizes) EXPECT_EQ(size.kernel.value, 1);
}

TEST(Compare, RefusesAnotherOpOrOtherSizes) {
  const RunData a = synthetic_run();
  RunData op = a, sizes = a;
  op.meta.op_name = "rope";
  sizes.meta.sizes.pop_back();
  EXPECT_NE(message_of([&] { compare(a, op); }).find("'rmsnorm_residual' and op 'rope'"),
            std::string::npos);
  EXPECT_NE(message_of([&] { compare(a, sizes); }).find("rows=1024,D=2048"), std::string::npos);
  EXPECT_NE(message_of([&] { compare(sizes, a); }), "");
}

TEST(Compare, ComparesRunsThatMeasuredNothing) {
  RunData a = synthetic_run(), b = a;
  b.records.clear();
  b.finish.reset();
  EXPECT_NE(comparison_table(compare(a, b)).find("measured in one run alone"), std::string::npos);
  EXPECT_TRUE(comparison_json(compare(a, b))["sizes"][0]["kernel_ratio"]["value"].is_null());
}

}  // namespace
}  // namespace mlx_kd::archive
