#include "mlx_kd/evaluate/protocol.h"

#include <gtest/gtest.h>

#include <cmath>

#include "mlx_kd/evaluate/time/kernel_timer.h"
#include "mlx_kd/spec/protocol_name.h"

namespace mlx_kd::evaluate {
namespace {

EvaluateOptions with_iters(int iters) {
  EvaluateOptions options;
  options.iters = iters;
  return options;
}

TEST(Protocol, DefaultSettingsAreNamedByTheVersionAlone) {
  EXPECT_EQ(name_of(protocol_for({})), "4");
  EXPECT_EQ(name_of(protocol_for({}, /*device_clock=*/true)), "4-device-clock");
  EXPECT_NE(name_of(protocol_for({})), spec::protocol_name("28850ad635fe7233"));
}

// The name says how times were taken, and so that old and new ones are compared; `proof` says by
// which rules a kernel is right.
TEST(Protocol, TheProofHasAVersionOfItsOwn) {
  EXPECT_EQ(to_json(protocol_for({})).at("proof").at("version"), 2);
  EXPECT_EQ(to_json(protocol_for({})).at("version"), 4);
}

// SHA-256 of {"claims":{"most_pairs":500,"pairs":500},"kernel":{"base_pairs":500,
// "better_pairs":500}}, computed with Python's hashlib.
TEST(Protocol, OtherSettingsAreNamedByAHashOfWhatDiffers) {
  const Protocol longer = protocol_for(with_iters(500));
  EXPECT_EQ(longer.claim_pairs, 500);
  EXPECT_EQ(name_of(longer), "4+6845b30a");
  EXPECT_EQ(name_of(protocol_for(with_iters(500), true)), "4-device-clock+6845b30a");
  EXPECT_NE(name_of(protocol_for(with_iters(501))), name_of(longer));
}

TEST(Protocol, FewerItersThanTheProtocolsChangeNothing) {
  EvaluateOptions fewer;
  fewer.iters = fewer.warmup = 1;
  EXPECT_EQ(name_of(protocol_for(fewer)), "4");
}

// It decides what is claimed, not how times were taken.
TEST(Protocol, TheNumberOfProcessesIsNotInTheName) {
  EvaluateOptions longer;
  longer.claim_processes = 21;
  EXPECT_EQ(name_of(protocol_for(longer)), "4");
  EXPECT_EQ(to_json(protocol_for(longer)).at("claims").at("processes"), 21);
}

// A sentence in the settings could not be reworded without another name.
TEST(Protocol, SettingsHoldNoSentences) {
  const base::Json settings = to_json(protocol_for({}, true)).flatten();
  for (const auto& [place, value] : settings.items()) {
    if (value.is_string()) {
      EXPECT_EQ(value.get<std::string>().find(' '), std::string::npos) << place;
    }
  }
}

TEST(Protocol, AClaimTakesThirtyPairsAtLeast) {
  EXPECT_GE(Protocol().claim_pairs, 30);
}

// The median lies outside the extremes of n pairs in 2 of 2^n cases.
TEST(Protocol, TheExtremesOfAFewSlowPairsHoldTheMedianInNinetyFiveOfAHundredCases) {
  EXPECT_LE(2 / std::exp2(Protocol().slow_pairs), 0.05);
  EXPECT_LT(Protocol().slow_pairs, Protocol().claim_pairs);
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
