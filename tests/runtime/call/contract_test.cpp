// Operators of every kind that the contract knows, called without and with pins.
#include "mlx_kd/runtime/call/call.h"
#include "mlx_kd/runtime/state/call_counts.h"
#include "tests/runtime/contract_ops.h"

namespace mlx_kd::runtime {
namespace {

class Contract : public Pinned {};

using Arrays = std::vector<mx::array>;

mx::array none() {
  return mx::array(std::initializer_list<float>{}, mx::float32);
}

mx::array ids(const std::vector<uint32_t>& values, const mx::Shape& shape) {
  return mx::array(values.begin(), shape, mx::uint32);
}

Arrays pick(const mx::array& table, const mx::array& which, const mx::array& bias = none(),
            double twice = 0) {
  pick_op();
  return call("test_pick", {table, which, bias}, {{"twice", twice}});
}

TEST_F(Contract, OutputsHaveTypesOfTheirOwnAndTheLeadingAxesOfTheCall) {
  const mx::array table = mx::reshape(mx::arange(24, mx::float32), {2, 3, 4});
  const Arrays found = pick(table, ids({0, 1, 2, 3, 0, 1}, {2, 3}));
  EXPECT_EQ(found[0].dtype(), mx::float32);
  EXPECT_EQ(found[1].dtype(), mx::uint32);
  EXPECT_TRUE(same_bits(found[0], mx::array({0.f, 5.f, 10.f, 15.f, 16.f, 21.f}, {2, 3})));
  EXPECT_TRUE(same_bits(found[1], ids({0, 1, 2, 3, 0, 1}, {2, 3})));
}

TEST_F(Contract, OptionalInputsMayBeLeftOutAndAttributesMayBeZero) {
  const mx::array table = mx::ones({2, 4}), bias = mx::array({10.f, 20.f, 30.f, 40.f});
  const mx::array which = ids({1, 2}, {2});
  EXPECT_TRUE(same_bits(pick(table, which)[0], mx::array({1.f, 1.f})));
  EXPECT_TRUE(same_bits(pick(table, which, bias)[0], mx::array({21.f, 31.f})));
  EXPECT_TRUE(same_bits(pick(table, which, bias, 1)[0], mx::array({42.f, 62.f})));
  EXPECT_TRUE(same_bits(pick(table, which, mx::array({}, mx::int32))[0], mx::array({1.f, 1.f})));
}

TEST_F(Contract, WhatDoesNotFitNamesOperatorPortAndWhatIsExpected) {
  const mx::array table = mx::ones({2, 4}), which = ids({1, 2}, {2});
  expect_part(refusal([&] {
                pick(table, mx::array({1.f, 2.f}));
              }),
              "[test_pick] ids has type float32: give uint32");
  expect_part(refusal([&] { pick(mx::astype(table, mx::int32), which); }),
              "[test_pick] MLX has no form of it, and none of our kernels takes the call");
  expect_part(refusal([&] { pick(table, ids({1, 2, 3}, {3})); }), "leading axes of table");
  expect_part(refusal([&] { pick(table, which, none(), 0.5); }),
              "twice is 0.5: give a whole number");
  expect_part(refusal([&] { pick(table, which, none(), -1); }), "twice is -1");
  expect_part(refusal([&] {
                call("test_pick", {table, which, none()}, {{"thrice", 1}});
              }),
              "it takes no number 'thrice', but 'biased' or 'twice'");
}

TEST_F(Contract, AnEmptyBatchGivesEmptyResults) {
  const Arrays found = pick(mx::zeros({0, 4}), mx::zeros({0}, mx::uint32));
  EXPECT_EQ(found[0].shape(), (mx::Shape{0}));
  EXPECT_EQ(found[1].dtype(), mx::uint32);
  mx::eval(found);
}

TEST_F(Contract, MoreThanTwoToThe31ElementsAreOneSizeAmongOthers) {
  const mx::array gate = mx::broadcast_to(mx::array(1.0f), {65536, 4, 16384});
  const auto query =
      read_call(known_operator("swiglu"), {gate, gate}, {}, mx::default_stream(mx::Device::cpu))
          .query;
  ASSERT_TRUE(query);
  EXPECT_EQ(query->dims[0] * query->dims[1], int64_t(1) << 32);
}

TEST_F(Contract, WithoutAFormInMlxTheDefaultSettingRunsAtEverySizeAndNumberWithOneKernel) {
  append_op();
  const auto cache = [](int rows) { return mx::zeros({rows, 4}); };
  for (const int rows : {8, 16})
    for (const double at : {0., 3., 7.}) {
      const mx::array updated =
          call("test_append", {cache(rows), mx::ones({4})}, {{"position", at}})[0];
      EXPECT_EQ(mx::sum(updated).item<float>(), 4);
      EXPECT_EQ(mx::sum(mx::take(updated, int(at), 0)).item<float>(), 4);
    }
  size_t lines = 0;
  Ledger::mine().visit([&](Line& line) {
    const bool mine = line.query.op == append_op().index && line.query.dims[1] == 4;
    lines += mine && (line.query.dims[0] == 8 || line.query.dims[0] == 16);
  });
  EXPECT_EQ(lines, 2u);  // a size each, whatever the position
  expect_part(explain("test_append", {cache(8), mx::ones({4})}).reason, "default setting runs");
  expect_part(refusal([&] {
                call("test_append", {cache(8), mx::ones({4})}, {{"position", -1}});
              }),
              "[test_append] position is -1");
  expect_part(refusal<std::exception>([&] {
                call("test_append", {mx::zeros({8, 4}, mx::float16), mx::ones({4})});
              }),
              "different types");
}

TEST_F(Contract, AnUpdatedArrayKeepsItsMemoryThroughAChainOfCalls) {
  append_op();
  const auto chain = [](mx::array cache) {
    for (int i = 0; i < 5; ++i)
      cache = call("test_append", {std::move(cache), mx::full({4}, float(i + 1))},
                   {{"position", i}})[0];
    return cache;
  };
  for (const bool pinned : {false, true}) {
    if (pinned) pin({entry_of(append_op(), {{"S", 8}, {"D", 4}}, 1)});
    mx::array cache = mx::zeros({8, 4});
    mx::eval(cache);
    const void* before = cache.data<void>();
    mx::array last = chain(std::move(cache));
    mx::eval(last);
    EXPECT_EQ(last.data<void>(), before) << pinned;
    EXPECT_EQ(mx::sum(last).item<float>(), 4 * 15);
    mx::array kept = mx::zeros({8, 4});
    mx::eval(kept);
    const mx::array changed = chain(kept);
    mx::eval(changed);
    EXPECT_NE(changed.data<void>(), kept.data<void>());
    EXPECT_EQ(mx::sum(kept).item<float>(), 0);
  }
  EXPECT_EQ(stats().hits, 10u);
}

TEST_F(Contract, WhereMlxRefusesTheDefaultSettingRunsAndMlxIsNotAskedAgain) {
  refused_op();
  const mx::array x = mx::ones({8});
  refused_op().without_mlx->store(0);
  asked() = 0;
  for (int i = 0; i < 3; ++i) EXPECT_EQ(first(call("test_refused", {x})[0]), 3);
  EXPECT_EQ(asked(), 1);
}

TEST_F(Contract, MlxsOwnWordsAreThoseOfACallThatNoKernelTakes) {
  refused_op();
  refused_op().without_mlx->store(0);
  expect_part(refusal([&] { call("test_refused", {mx::ones({8}, mx::int32)}); }),
              "[thrice] not on this device");
}

TEST_F(Contract, GradientsGoThroughTheOtherOperatorWithoutAndWithAPin) {
  square_op();
  const auto square = [](const Arrays& in) { return call("test_square", in); };
  const mx::array x = mx::array({1.f, 2.f, 3.f});
  for (const int mark : {1, 7}) {
    if (mark != 1) pin({entry_of(square_op(), {{"n", 3}}, mark)});
    const auto [y, dx] = mx::vjp(square, Arrays{x}, Arrays{mx::ones({3})});
    EXPECT_EQ(first(y[0]), mark);
    EXPECT_TRUE(same_bits(dx[0], mx::array({100.f, 200.f, 300.f}))) << mark;
    const auto tangents = mx::jvp(square, Arrays{x}, Arrays{mx::ones({3})}).second;
    EXPECT_TRUE(same_bits(tangents[0], mx::array({2.f, 4.f, 6.f}))) << mark;
  }
}

TEST_F(Contract, AnOperatorWithoutAGradientThrowsWithoutAndWithAPin) {
  constant_op();
  const auto same = [](const Arrays& in) { return call("test_constant", in); };
  const auto differentiate = [&] {
    mx::eval(mx::vjp(same, Arrays{mx::ones({3})}, Arrays{mx::ones({3})}).second);
  };
  expect_part(refusal<std::exception>(differentiate), "[test_constant] it has no gradient");
  pin({entry_of(constant_op(), {{"n", 3}}, 7)});
  EXPECT_EQ(first(call("test_constant", {mx::ones({3})})[0]), 7);
  EXPECT_THROW(differentiate(), std::exception);
}

}  // namespace
}  // namespace mlx_kd::runtime
