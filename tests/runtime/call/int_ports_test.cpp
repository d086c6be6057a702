// An int in the place of an array: kv_append's offset, through the function that users call.
#include "mlx/compile.h"
#include "mlx_kd/runtime/call/ops.h"
#include "tests/runtime/pinned.h"

namespace mlx_kd::runtime {
namespace {

class IntPorts : public Pinned {};

constexpr int kRows = 8, kNew = 3;

mx::array cache(int width) {
  return mx::zeros({2, 1, kRows, width});
}

mx::array added(int width) {
  return mx::reshape(mx::arange(1, 1 + 2 * kNew * width, mx::float32), {2, 1, kNew, width});
}

std::pair<mx::array, mx::array> append(const IntOrArray& offset) {
  return kv_append(cache(4), cache(6), added(4), added(6), offset);
}

TEST_F(IntPorts, AnIntIsAnArrayOfOneElement) {
  for (const int at : {0, 2, kRows - kNew}) {
    const auto [keys, values] = append(at);
    const auto [same_keys, same_values] = append(mx::array({at}, mx::int32));
    EXPECT_TRUE(same_bits(keys, same_keys)) << at;
    EXPECT_TRUE(same_bits(values, same_values)) << at;
    EXPECT_TRUE(same_bits(mx::slice(keys, {0, 0, at, 0}, {2, 1, at + kNew, 4}), added(4))) << at;
    EXPECT_EQ(mx::sum(keys).item<float>(), mx::sum(added(4)).item<float>()) << at;
  }
}

TEST_F(IntPorts, AnIntOutsideItsRangeIsNamedAtTheCall) {
  for (const int64_t at :
       {int64_t(-1), int64_t(kRows - kNew + 1), INT64_MIN, INT64_MAX, (int64_t(1) << 32) + 1})
    EXPECT_EQ(refusal([&] { append(at); }),
              "[kv_append] offset is " + std::to_string(at) + ": give 0 to 5");
  expect_part(refusal([] {
                kv_append(cache(4), cache(6), mx::zeros({2, 1, 9, 4}), mx::zeros({2, 1, 9, 6}), 0);
              }),
              "[kv_append] offset is 0: no value fits arrays of these shapes");
}

TEST_F(IntPorts, ArraysThatDoNotGoTogetherAreNamedFirst) {
  expect_part(refusal([] { kv_append(cache(4), cache(6), added(5), added(6), -1); }),
              "[kv_append] new_keys has shape (2, 1, 3, 5)");
}

// The values of an array are on the device: nobody looks at them.
TEST_F(IntPorts, RowsOfAnArrayOutsideAreNotWritten) {
  for (const int wrong : {-1, kRows - kNew + 1, INT32_MIN, INT32_MAX}) {
    const auto [keys, values] = append(mx::array({wrong, 5}, mx::int32));
    const mx::array first = mx::slice(keys, {0, 0, 0, 0}, {1, 1, kRows, 4});
    EXPECT_TRUE(same_bits(first, mx::zeros({1, 1, kRows, 4}))) << wrong;
    const mx::array second = mx::slice(values, {1, 0, 5, 0}, {2, 1, kRows, 6});
    EXPECT_TRUE(same_bits(second, mx::slice(added(6), {1, 0, 0, 0}, {2, 1, kNew, 6}))) << wrong;
    expect_part(refusal([&] { append(mx::array({1.0f})); }), "offset has type float32: give int32");
  }
}

TEST_F(IntPorts, ACompiledFunctionKeepsTheInt) {
  const std::vector<mx::array> inputs = {cache(4), cache(6), added(4), added(6)};
  const auto at_two = [](const std::vector<mx::array>& in) {
    const auto [keys, values] = kv_append(in[0], in[1], in[2], in[3], 2);
    return std::vector<mx::array>{keys, values};
  };
  EXPECT_TRUE(same_bits(mx::compile(at_two)(inputs)[0], append(2).first));
}

}  // namespace
}  // namespace mlx_kd::runtime
