// attention as users call it: masks of every kind, limits, caches that are cut from larger arrays,
// and arrays that do not go together.
#include "tests/runtime/pinned.h"

namespace mlx_kd::runtime::attention_test {
namespace {

constexpr int kBatch = 2, kHeads = 4, kKeyHeads = 2, kRows = 3, kKeys = 7, kWidth = 8;

mx::array left_out() {
  return mx::array(std::initializer_list<float>{});
}

mx::array normal(const mx::Shape& shape, uint64_t seed) {
  return mx::random::normal(shape, mx::float32, mx::random::key(seed), mx::Device::cpu);
}

class AttentionCall : public Pinned {
 protected:
  mx::array q = normal({kBatch, kHeads, kRows, kWidth}, 1);
  mx::array k = normal({kBatch, kKeyHeads, kKeys, kWidth}, 2);
  mx::array v = normal({kBatch, kKeyHeads, kKeys, kWidth - 2}, 3);
  const mx::Device cpu = mx::Device::cpu;

  mx::array attend(const mx::array& mask, const std::map<std::string, double>& numbers = {},
                   const mx::array& bias = left_out()) const {
    return call("attention", {q, k, v, mask, left_out(), bias}, numbers, cpu)[0];
  }
  mx::array in_mlx(const std::string& mode, std::optional<mx::array> mask = {}) const {
    return mx::fast::scaled_dot_product_attention(q, k, v, 0.125f, mode, mask, {}, false, cpu);
  }
  void expect_same(const mx::array& made, const mx::array& wanted) const {
    EXPECT_EQ(made.shape(), wanted.shape());
    EXPECT_TRUE(mx::allclose(made, wanted, 1e-5, 1e-5, false, cpu).item<bool>());
  }
};

TEST_F(AttentionCall, TakesMasksThatBroadcastToTheScores) {
  const mx::array scores = normal({kBatch, 1, kRows, kKeys}, 4);
  expect_same(attend(left_out()), in_mlx(""));
  for (const mx::array& numbers :
       {scores, mx::slice(scores, {0, 0, 0, 0}, {1, 1, 1, kKeys}, cpu),
        mx::reshape(mx::slice(scores, {0, 0, 0, 0}, {1, 1, kRows, kKeys}, cpu), {kRows, kKeys},
                    cpu)}) {
    expect_same(attend(numbers), in_mlx("array", numbers));
    expect_same(attend(left_out(), {}, numbers), in_mlx("array", numbers));
    const mx::array seen = mx::greater(numbers, mx::array(-0.5f), cpu);
    expect_same(attend(seen), in_mlx("array", seen));
  }
  // A mask of another type of numbers is a bias of the type of q.
  const mx::array half = mx::astype(scores, mx::float16, cpu);
  expect_same(attend(half), in_mlx("array", mx::astype(half, mx::float32, cpu)));
}

TEST_F(AttentionCall, LimitsRowsToTheKeysOfTheirPositions) {
  expect_same(attend(left_out(), {{"causal", 1}}), in_mlx("causal"));
  const mx::array key = mx::arange(kKeys, cpu);
  const mx::array position = mx::expand_dims(mx::arange(kKeys - kRows, kKeys, cpu), 1, cpu);
  const mx::array near = mx::less(position, mx::add(key, mx::array(3), cpu), cpu);
  expect_same(attend(left_out(), {{"window", 3}}), in_mlx("array", near));
  const mx::array both = mx::logical_and(near, mx::greater_equal(position, key, cpu), cpu);
  expect_same(attend(left_out(), {{"window", 3}, {"causal", 1}}), in_mlx("array", both));
}

TEST_F(AttentionCall, TakesKeysThatAreCutFromALargerCache) {
  const mx::array wanted = attend(left_out());
  const mx::array more = mx::concatenate({k, normal({kBatch, kKeyHeads, 9, kWidth}, 5)}, 2, cpu);
  k = mx::slice(more, {0, 0, 0, 0}, {kBatch, kKeyHeads, kKeys, kWidth}, cpu);
  expect_same(attend(left_out()), wanted);
}

TEST_F(AttentionCall, NamesArraysThatDoNotGoTogether) {
  expect_part(refusal([&] {
                attend(mx::zeros({kRows, kKeys + 1}));
              }),
              "[attention] bias has shape (3, 8): it must broadcast to (2, 4, 3, 7)");
  expect_part(refusal([&] {
                attend(mx::zeros({kRows, 2}, mx::bool_));
              }),
              "[attention] mask has shape (3, 2): it must broadcast to (2, 4, 3, 7)");
  expect_part(refusal([&] { attend(mx::zeros({kKeys}), {}, mx::zeros({kKeys})); }),
              "[attention] mask is added to the scores, and so is bias");
  k = normal({kBatch, 3, kKeys, kWidth}, 2);
  expect_part(
      refusal([&] { attend(left_out()); }),
      "[attention] k has shape (2, 3, 7, 8): it must be of a number of heads that divides the 4");
  k = normal({kBatch, kKeyHeads, kKeys, kWidth + 1}, 2);
  expect_part(refusal([&] { attend(left_out()); }),
              "[attention] k has shape (2, 2, 7, 9): it must be (2, 2, 7, 8)");
}

}  // namespace
}  // namespace mlx_kd::runtime::attention_test
