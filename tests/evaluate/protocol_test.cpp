#include "mlx_kd/evaluate/protocol.h"

#include <gtest/gtest.h>

#include "mlx_kd/evaluate/kernel_timer.h"

namespace mlx_kd::evaluate {
namespace {

TEST(Protocol, HashNamesTheSettings) {
  EvaluateOptions more;
  more.iters = 500;
  const Protocol usual = protocol_for({}), longer = protocol_for(more);
  EXPECT_EQ(hash_of(usual).size(), 16u);
  EXPECT_EQ(hash_of(usual), hash_of(protocol_for({})));
  EXPECT_NE(hash_of(usual), hash_of(protocol_for({}, true)));  // another clock
  EXPECT_NE(hash_of(usual), hash_of(longer));
  EXPECT_EQ(longer.claim_pairs, 500);
}

TEST(Protocol, FewerItersThanTheProtocolsChangeNothing) {
  EvaluateOptions fewer;
  fewer.iters = fewer.warmup = 1;
  EXPECT_EQ(hash_of(protocol_for(fewer)), hash_of(protocol_for({})));
}

TEST(Protocol, AClaimTakesThirtyPairsAtLeast) {
  EXPECT_GE(Protocol().claim_pairs, 30);
}

TEST(StoppingRule, GivesUpOnAHopelessCandidateAfterAFewPairs) {
  const Protocol protocol;
  EXPECT_TRUE(wants_more({}, protocol));
  EXPECT_TRUE(wants_more({0.5, 0.5}, protocol));
  EXPECT_FALSE(wants_more({0.5, 0.5, 0.4}, protocol));
}

TEST(StoppingRule, OneGoodPairKeepsACandidateInTheRace) {
  const Protocol protocol;
  EXPECT_TRUE(wants_more({0.5, 0.01, 0.5}, protocol));
}

TEST(StoppingRule, ABetterCandidateIsNeverStoppedBeforeAllPairs) {
  const Protocol protocol;
  std::vector<double> pairs;
  for (int i = 0; i < protocol.better_pairs; ++i) {
    EXPECT_TRUE(wants_more(pairs, protocol));
    pairs.push_back(-2);
  }
  EXPECT_FALSE(wants_more(pairs, protocol));
}

}  // namespace
}  // namespace mlx_kd::evaluate
