#include "mlx_kd/evaluate/protocol.h"

#include <gtest/gtest.h>

#include <cmath>

#include "mlx_kd/evaluate/time/kernel_timer.h"

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

TEST(PairsWon, AreThoseWhoseMeanOverTheSizesIsBelowZero) {
  EXPECT_EQ(pairs_won({}), 0);
  EXPECT_EQ(pairs_won({{{}, {-0.1, 0.1, 0}, false}}), 1);
  EXPECT_EQ(pairs_won({{{}, {-0.3, 0.1, -0.1}, false}, {{}, {0.2, -0.2, 0.2}, false}}), 2);
}

// With confirm_wins of confirm_pairs by chance in 1 of 1,000 equal candidates at most, and each of
// them only after it seemed confirm_factor better, an incumbent of a long run is replaced for
// cause.
TEST(PairsWon, SeldomConfirmAKernelThatIsEqual) {
  const Protocol protocol;
  double tail = 0, ways = 1;
  for (int won = 0; won <= protocol.confirm_pairs; ++won) {
    if (won >= protocol.confirm_wins) tail += ways;
    ways *= static_cast<double>(protocol.confirm_pairs - won) / (won + 1);
  }
  EXPECT_LT(tail / std::exp2(protocol.confirm_pairs), 1e-3);
}

}  // namespace
}  // namespace mlx_kd::evaluate
