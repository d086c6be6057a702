#include "mlx_kd/evaluate/time/graph_timer.h"

#include <gtest/gtest.h>

namespace mlx_kd::evaluate {
namespace {

TEST(GraphPlan, FastCallsFillTheSampleAndTakeManyPairs) {
  const Protocol protocol;
  const GraphPlan plan = plan_graph(3, 60, 40, protocol);
  EXPECT_EQ(plan.calls, 40);
  EXPECT_EQ(plan.pairs, protocol.most_claim_pairs);
}

TEST(GraphPlan, SlowCallsAreFewAndStillTakeEnoughPairs) {
  const Protocol protocol;
  const GraphPlan plan = plan_graph(1000, 100000, 40, protocol);
  EXPECT_EQ(plan.calls, 1);
  EXPECT_EQ(plan.pairs, protocol.claim_pairs);
}

}  // namespace
}  // namespace mlx_kd::evaluate
