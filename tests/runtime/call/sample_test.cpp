// mlx_kd::sample: the tokens of MLX's chain of operators, its random state, and what is refused.
#include "mlx_kd/runtime/call/sample.h"

#include <cmath>
#include <limits>

#include "mlx_kd/kernels/op_table.h"
#include "tests/runtime/pinned.h"

namespace mlx_kd::runtime {
namespace {

constexpr float kMinusInf = -std::numeric_limits<float>::infinity();

mx::array some_logits(int rows, int width, uint64_t seed = 3) {
  return mx::multiply(mx::random::normal({rows, width}, mx::float32, mx::random::key(seed)),
                      mx::array(2.0f));
}

std::vector<uint32_t> tokens_of(mx::array tokens) {
  tokens = mx::contiguous(tokens);
  tokens.eval();
  return {tokens.data<uint32_t>(), tokens.data<uint32_t>() + tokens.size()};
}

// The token of one row by MLX's own operators.
std::vector<uint32_t> by_chain(const mx::array& logits, const Sampling& one, const mx::array& key) {
  const std::vector<double> numbers = {one.temperature,
                                       one.top_p,
                                       one.min_p,
                                       static_cast<double>(one.min_tokens_to_keep),
                                       static_cast<double>(one.top_k),
                                       one.xtc_probability,
                                       one.xtc_threshold,
                                       0,
                                       0};
  return tokens_of(
      kernels::find_op("sample_tokens")
          .composition({logits, key, mx::array({}, mx::int32), mx::array({}, mx::float32)}, numbers,
                       mx::default_stream(mx::Device::cpu))[0]);
}

const Sampling kSettings[] = {{.temperature = 0},
                              {.temperature = 0.7, .top_p = 0.9},
                              {.min_p = 0.05, .min_tokens_to_keep = 3},
                              {.top_p = 0.95, .top_k = 20},
                              {.xtc_probability = 1, .xtc_threshold = 0.01}};

class Sample : public PinnedTable {
 protected:
  // A test of messages evaluates nothing.
  template <class Call>
  static std::string refusal(const Call& call) {
    try {
      call();
    } catch (const std::invalid_argument& error) {
      return error.what();
    }
    return "nothing was refused";
  }
  static std::string refusal_of(const Sampling& one) {
    return refusal([&] { sample(some_logits(2, 10), one); });
  }
};

TEST_F(Sample, GivesTheTokensOfMlxsChain) {
  for (const int rows : {1, 3})
    for (const Sampling& one : kSettings)
      for (const uint64_t seed : {1, 2, 3}) {
        const mx::array logits = some_logits(rows, 1000, seed), key = mx::random::key(10 + seed);
        EXPECT_EQ(tokens_of(sample(logits, one, {.key = key}).token), by_chain(logits, one, key))
            << rows << " " << one.top_p << " " << one.min_p << " " << one.top_k;
      }
}

TEST_F(Sample, RowsOfTheirOwnAreDrawnOneAfterTheOther) {
  const mx::array logits = some_logits(4, 500);
  const std::vector<Sampling> rows(std::begin(kSettings), std::begin(kSettings) + 4);
  mx::random::seed(7);
  const Sampled all = sample(logits, rows);
  std::vector<uint32_t> wanted;
  mx::random::seed(7);
  for (int i = 0; i < 4; ++i) {
    const mx::array row = mx::slice(logits, {i, 0}, {i + 1, 500});
    const Sampled one = sample(row, rows[static_cast<size_t>(i)]);
    wanted.push_back(tokens_of(one.token)[0]);
  }
  EXPECT_EQ(tokens_of(all.token), wanted);
}

TEST_F(Sample, WithoutAKeyMlxsStateIsUsedAndGoesOnAsMlxLeavesIt) {
  const mx::array logits = some_logits(1, 300);
  for (const Sampling& one : kSettings) {
    mx::random::seed(5);
    const auto token = tokens_of(sample(logits, one).token);
    const float after = mx::random::uniform({}).item<float>();
    EXPECT_EQ(token, tokens_of(sample(logits, one, {.key = mx::random::key(5)}).token));
    mx::random::seed(5);
    const int draws = one.temperature == 0 ? 0 : one.xtc_probability > 0 ? 2 : 1;
    for (int i = 0; i < draws; ++i) mx::random::uniform({});
    EXPECT_EQ(after, mx::random::uniform({}).item<float>());
  }
}

TEST_F(Sample, GivesTheLargestLogProbabilitiesInOrder) {
  const mx::array logits = some_logits(2, 100);
  Sampled all = sample(logits, Sampling{}, {.key = mx::random::key(1), .logprobs = 5});
  const mx::array logprobs = mx::subtract(logits, mx::logsumexp(logits, -1, true));
  const mx::array order = mx::slice(mx::argsort(mx::negative(logprobs), -1), {0, 0}, {2, 5});
  EXPECT_EQ(tokens_of(all.top_tokens), tokens_of(order));
  EXPECT_TRUE(
      mx::array_equal(all.top_logprobs, mx::take_along_axis(logprobs, order, -1)).item<bool>());
  EXPECT_EQ(sample(logits).top_tokens.shape(), (mx::Shape{2, 0}));
}

TEST_F(Sample, NamesWhatMlxLmRefusesWithItsValue) {
  EXPECT_EQ(refusal_of({.min_p = 1.5}), "[sample] min_p is 1.5: give a number in [0, 1]");
  EXPECT_EQ(refusal_of({.min_p = 0.1, .min_tokens_to_keep = 11}),
            "[sample] min_tokens_to_keep is 11: give a whole number, 1 to V = 10");
  EXPECT_EQ(refusal_of({.xtc_probability = 1.5}),
            "[sample] xtc_probability is 1.5: give a number in [0, 1]");
  EXPECT_EQ(refusal_of({.xtc_probability = 1, .xtc_threshold = 0.6}),
            "[sample] xtc_threshold is 0.6: give a number in [0, 0.5]");
  EXPECT_EQ(refusal_of({.top_k = 10}),
            "[sample] top_k is 10: give a whole number below V = 10, or 0 for none");
  EXPECT_EQ(refusal_of({.temperature = -1}), "[sample] temperature is -1: give 0, or 1e-4 or more");
  EXPECT_EQ(refusal_of({.temperature = 0, .min_p = 1.5, .top_k = 10}), "nothing was refused");
  EXPECT_EQ(refusal_of({.top_p = -1, .min_tokens_to_keep = 0, .top_k = -1, .xtc_probability = -1}),
            "nothing was refused");
}

TEST_F(Sample, NamesOtherShapesAndRowsWithoutADistribution) {
  const mx::array logits({0.0f, 1.0f, std::nanf(""), 0.0f, kMinusInf, kMinusInf}, {3, 2});
  EXPECT_EQ(refusal([&] { sample(logits, Sampling{}, {.check = true}); }),
            "[sample] logits have no distribution in row 1, 2: a NaN, +inf, or nothing but -inf");
  EXPECT_EQ(refusal([&] { sample(logits, Sampling{}, {.key = mx::zeros({3}, mx::uint32)}); }),
            "[sample] key has 3 elements and 1 axes: give uint32 [2], as mx::random::key does");
  EXPECT_EQ(refusal([&] { sample(logits, Sampling{}, {.logprobs = 3}); }),
            "[sample] logprobs is 3: give 0 to V = 2");
  EXPECT_EQ(refusal([&] { sample(mx::array(1.0f)); }),
            "[sample] logits has no axis: give [..., V]");
  EXPECT_EQ(refusal([&] { sample(logits, std::vector<Sampling>(2)); }),
            "[sample] there are settings for 2 rows: give one for each of 3");
}

}  // namespace
}  // namespace mlx_kd::runtime
