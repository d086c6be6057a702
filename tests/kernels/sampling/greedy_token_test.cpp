// The judge of greedy_token: it takes what MLX computes, and nothing else.
#include <gtest/gtest.h>
#include <mlx/mlx.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "mlx_kd/base/random.h"
#include "mlx_kd/kernels/op_table.h"

namespace mlx_kd::kernels {
namespace {

namespace mx = mlx::core;
using spec::Dtype;

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// Logits of one type, and what an answer to them is judged as.
class Logits {
 public:
  Logits(Dtype t, int64_t batch, std::vector<float> values)
      : t_(t), batch_(batch), count_(static_cast<int64_t>(values.size()) / batch) {
    stored_.resize(values.size() * static_cast<size_t>(size_of(t)));
    for (size_t i = 0; i < values.size(); ++i)
      spec::store_element(stored_.data(), static_cast<int64_t>(i), t, values[i]);
  }

  void answer_by_mlx() {
    const mx::Dtype types[] = {mx::float32, mx::float16, mx::bfloat16};
    const mx::Dtype type = types[static_cast<int>(t_)];
    std::vector<float> wide;
    for (int64_t i = 0; i < batch_ * count_; ++i)
      wide.push_back(spec::load_element(stored_.data(), i, t_));
    const mx::Stream cpu = mx::default_stream(mx::Device::cpu);
    const mx::Shape shape = {static_cast<int>(batch_), static_cast<int>(count_)};
    const auto x = mx::astype(mx::array(wide.data(), shape), type, cpu);
    const auto made = find_op("greedy_token").mlx({x}, {}, cpu);
    const auto logprobs = mx::astype(made[1], mx::float32, cpu);
    mx::eval({made[0], logprobs});
    for (int64_t row = 0; row < batch_; ++row)
      answer(row, made[0].data<uint32_t>()[row], logprobs.data<float>()[row]);
  }

  void answer(int64_t row, uint32_t token, float logprob) {
    tokens_.resize(static_cast<size_t>(batch_));
    logprobs_.resize(static_cast<size_t>(batch_ * size_of(t_)));
    tokens_[static_cast<size_t>(row)] = token;
    spec::store_element(logprobs_.data(), row, t_, logprob);
  }

  uint32_t token(int64_t row) const { return tokens_[static_cast<size_t>(row)]; }
  float logprob(int64_t row) const { return spec::load_element(logprobs_.data(), row, t_); }

  double ratio() const {
    const spec::JudgedCase judged = {
        {stored_.data()}, {tokens_.data(), logprobs_.data()}, t_, {{"B", batch_}, {"V", count_}}};
    const auto found = find_op("greedy_token").residuals(judged);
    EXPECT_EQ(found.size(), 1u);
    EXPECT_EQ(found.front().limit, 1);
    return found.front().ratio;
  }

 private:
  Dtype t_;
  int64_t batch_, count_;
  std::vector<std::byte> stored_;
  std::vector<uint32_t> tokens_;
  std::vector<std::byte> logprobs_;
};

std::vector<float> random_logits(int64_t batch, int64_t count, float scale, uint64_t seed) {
  base::Random random(seed);
  std::vector<float> values;
  for (int64_t i = 0; i < batch * count; ++i) {
    float sum = -6;
    for (int k = 0; k < 12; ++k) sum += static_cast<float>(random.uniform());
    values.push_back(scale * sum);
  }
  return values;
}

class GreedyToken : public testing::TestWithParam<Dtype> {};

INSTANTIATE_TEST_SUITE_P(Types, GreedyToken, testing::ValuesIn(spec::float_dtypes()),
                         [](const auto& test) { return name_of(test.param); });

TEST_P(GreedyToken, IsWhatMlxComputes) {
  for (const int64_t batch : {1, 2, 5, 8})
    for (const int64_t count : {1, 2, 31, 1000, 32003})
      for (const float scale : {0.01f, 1.0f, 8.0f}) {
        Logits logits(GetParam(), batch, random_logits(batch, count, scale, 7));
        logits.answer_by_mlx();
        EXPECT_LE(logits.ratio(), 1) << batch << " x " << count << " by " << scale;
      }
}

TEST_P(GreedyToken, IsNotTheSecondOfEquals) {
  std::vector<float> values(100, 1.0f);
  values[40] = values[60] = 3.0f;
  Logits logits(GetParam(), 1, values);
  logits.answer_by_mlx();
  EXPECT_EQ(logits.token(0), 40u);
  EXPECT_LE(logits.ratio(), 1);
  for (const uint32_t wrong : {0u, 39u, 60u, 100u}) {
    logits.answer(0, wrong, logits.logprob(0));
    EXPECT_EQ(logits.ratio(), std::numeric_limits<double>::infinity()) << wrong;
  }
}

// In 8 bits 4 and 4.03125 differ, and both less 12.5 are -8.5.
TEST(GreedyTokenInBfloat16, IsTheFirstOfLogitsThatRoundingMakesEqual) {
  std::vector<float> values(100000, 1.0f);
  values[500] = 4.0f;
  values[900] = 4.03125f;
  Logits logits(Dtype::bfloat16, 1, values);
  logits.answer_by_mlx();
  EXPECT_EQ(logits.token(0), 500u);
  EXPECT_LE(logits.ratio(), 1);
  logits.answer(0, 900, logits.logprob(0));
  EXPECT_GT(logits.ratio(), 1);
}

TEST_P(GreedyToken, HasALogProbabilityOfTheSameRounding) {
  Logits logits(GetParam(), 1, random_logits(1, 5000, 2, 9));
  logits.answer_by_mlx();
  const float right = logits.logprob(0);
  for (const float factor : {0.98f, 1.02f, -1.0f}) {
    logits.answer(0, logits.token(0), right * factor);
    EXPECT_GT(logits.ratio(), 1) << factor;
  }
}

TEST_P(GreedyToken, CountsNanAsTheLargest) {
  const float nan = std::nanf("");
  const std::vector<float> rows = {
      1, 2,          nan,       3, 4,           // NaN
      1, 2,          kInfinity, 3, kInfinity,   // +inf
      1, kInfinity,  nan,       3, 4,           // both
      0, -kInfinity, 2,         2, -kInfinity,  // masked
  };
  Logits logits(GetParam(), 4, rows);
  logits.answer_by_mlx();
  EXPECT_EQ(logits.token(0), 0u);
  EXPECT_EQ(logits.token(1), 2u);
  EXPECT_EQ(logits.token(2), 0u);
  EXPECT_EQ(logits.token(3), 2u);
  EXPECT_LE(logits.ratio(), 1);
  logits.answer(1, 4, nan);
  EXPECT_GT(logits.ratio(), 1);
  logits.answer(1, 2, kInfinity);
  EXPECT_GT(logits.ratio(), 1);
}

TEST_P(GreedyToken, IsTheFirstOfARowWithoutFiniteLogits) {
  Logits logits(GetParam(), 1, std::vector<float>(50, -kInfinity));
  logits.answer_by_mlx();
  EXPECT_EQ(logits.token(0), 0u);
  EXPECT_TRUE(std::isnan(logits.logprob(0)));
  EXPECT_LE(logits.ratio(), 1);
}

}  // namespace
}  // namespace mlx_kd::kernels
