// The judge of sample_tokens: it takes the tokens of mlx-lm's chain, and none that the chain cannot
// draw.
#include <gtest/gtest.h>
#include <mlx/mlx.h>

#include <algorithm>
#include <numeric>

#include "mlx_kd/base/random.h"
#include "mlx_kd/kernels/op_table.h"

namespace mlx_kd::kernels {
namespace {

namespace mx = mlx::core;
using spec::Dtype;

// temperature, top_p, min_p, min_tokens_to_keep, top_k, xtc_probability, xtc_threshold
using Scalars = std::vector<double>;

// Logits of float32, their draw by MLX, and how it is judged.
class Draw {
 public:
  Draw(int64_t rows, int64_t count, Scalars scalars, uint64_t seed)
      : rows_(rows), count_(count), scalars_(std::move(scalars)) {
    base::Random random(seed);
    for (int64_t i = 0; i < rows * count; ++i)
      logits_.push_back(static_cast<float>(2 * random.normal()));
    key_ = {static_cast<uint32_t>(random.next()), static_cast<uint32_t>(random.next())};
    const spec::Op& op = find_op("sample_tokens");
    const mx::Stream cpu = mx::default_stream(mx::Device::cpu);
    const mx::Shape shape = {static_cast<int>(rows), static_cast<int>(count)};
    Scalars numbers = scalars_;
    numbers.resize(numbers.size() + 6);  // attributes: none
    const auto made = op.composition({mx::array(logits_.data(), shape), mx::array(key_.data(), {2}),
                                      mx::array({}, mx::int32), mx::array({}, mx::float32)},
                                     numbers, cpu);
    mx::eval(made);
    tokens_.assign(made[0].data<uint32_t>(), made[0].data<uint32_t>() + rows);
    logprobs_.assign(made[1].data<float>(), made[1].data<float>() + rows);
  }

  double ratio() const {
    const spec::JudgedCase judged = {{logits_.data(), key_.data(), nullptr, nullptr},
                                     {tokens_.data(), logprobs_.data(), nullptr, nullptr},
                                     Dtype::float32,
                                     {{"B", rows_},
                                      {"V", count_},
                                      {"top", 0},
                                      {"normalised", 0},
                                      {"special", 0},
                                      {"each_row", 0},
                                      {"keys", 0},
                                      {"vector", 0}},
                                     scalars_};
    return find_op("sample_tokens").residuals(judged).front().ratio;
  }

  // The token of the row's least logit.
  void take_least(size_t row) {
    const auto from = logits_.begin() + static_cast<int64_t>(row) * count_;
    const auto least = std::min_element(from, from + count_);
    logprobs_[row] += *least - from[static_cast<int64_t>(tokens_[row])];
    tokens_[row] = static_cast<uint32_t>(least - from);
  }

  std::vector<uint32_t> tokens_;
  std::vector<float> logprobs_;

 private:
  int64_t rows_, count_;
  Scalars scalars_;
  std::vector<float> logits_;
  std::vector<uint32_t> key_;
};

const Scalars kAll[] = {{1, 0, 0, 1, 0, 0, 0.1},    {0.7, 0.9, 0, 1, 0, 0, 0.1},
                        {1, 0, 0.05, 3, 0, 0, 0.1}, {1, 0.95, 0, 1, 20, 0, 0.1},
                        {1, 0, 0, 1, 0, 1, 0.01},   {0, 0, 0, 1, 0, 0, 0.1}};

TEST(SampleTokensJudge, TakesWhatMlxDraws) {
  for (const Scalars& scalars : kAll)
    for (const int64_t rows : {1, 3})
      for (uint64_t seed = 0; seed < 5; ++seed)
        EXPECT_LE(Draw(rows, 300, scalars, seed).ratio(), 1) << seed << " " << scalars[1];
}

TEST(SampleTokensJudge, RefusesTokensThatFiltersDrop) {
  for (size_t i = 1; i < std::size(kAll); ++i) {
    if (kAll[i][5] > 0) continue;  // xtc keeps the least probable
    Draw draw(1, 300, kAll[i], 7);
    draw.take_least(0);
    EXPECT_GT(draw.ratio(), 1) << i;
  }
}

TEST(SampleTokensJudge, RefusesAnotherDrawAndAnotherLogProbability) {
  for (const int64_t rows : {1, 3}) {
    Draw draw(rows, 300, kAll[0], 8);
    draw.take_least(0);
    EXPECT_GT(draw.ratio(), 1);
    Draw other(rows, 300, kAll[0], 8);
    other.logprobs_[0] += 0.125f;
    EXPECT_GT(other.ratio(), 1);
    other.tokens_[0] = 300;
    EXPECT_GT(other.ratio(), 1);
  }
}

}  // namespace
}  // namespace mlx_kd::kernels
