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

TEST(GraphPlan, FlushesCountAsTimeOfAPair) {
  const Protocol protocol;
  EXPECT_EQ(plan_graph(3, 60, 40, protocol, 100).pairs, 76);  // 0.8 s / (40 (63 + 2 100) us)
  EXPECT_EQ(plan_graph(3, 60, 40, protocol, 1000).pairs, protocol.claim_pairs);
}

TEST(GraphPlan, ACallIsSlowBeyondTheProtocolsLimitOnly) {
  const Protocol protocol;
  EXPECT_TRUE(plan_graph(1e3 * protocol.slow_call_ms + 1, 10, 40, protocol).slow);
  EXPECT_TRUE(plan_graph(10, 1e3 * protocol.slow_call_ms + 1, 40, protocol).slow);
  EXPECT_FALSE(plan_graph(1e3 * protocol.slow_call_ms, 10, 40, protocol).slow);
}

}  // namespace
}  // namespace mlx_kd::evaluate
