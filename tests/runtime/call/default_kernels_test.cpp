// The setting default_kernels: what runs where no pin serves a call, what counts it, what explains
// it.
#include <thread>

#include "tests/runtime/contract_ops.h"

namespace mlx_kd::runtime {
namespace {

using Names = std::vector<std::string>;

// y = x in MLX and 7 x in our kernel, so that a result tells which ran.
const Operator& seven_op(const std::string& name = "test_seven",
                         const std::string& body = std::string("7 * KD_MARK * ") + kFirst) {
  spec::Op op = elementwise(name, {"x"}, "y", body);
  op.mlx = [](const spec::Op::Arrays& in, std::span<const double>, const mx::Stream& s) {
    return spec::Op::Arrays{mx::add(in[0], mx::array(0.0f), s)};
  };
  return add_operator(op);
}

const Operator& seven() {
  static const Operator& made = seven_op();
  return made;
}

// Its kernel does not compile.
const Operator& broken() {
  static const Operator& made = seven_op("test_broken", "no_such_name");
  return made;
}

class DefaultKernels : public Pinned {
 protected:
  DefaultKernels() {
    seven();
    broken();
  }
  static float ran(const std::string& op, int n = 8) { return first(call(op, {all_ones({n})})[0]); }
};

TEST_F(DefaultKernels, RunWhereNoPinServesACallAndNowhereElse) {
  EXPECT_EQ(ran("test_seven"), 1);
  configure({.default_kernels = Names{"test_seven"}});
  EXPECT_EQ(ran("test_seven"), 7);
  EXPECT_EQ(ran("test_seven", 5), 7);
  EXPECT_EQ(settings().default_kernels, Names{"test_seven"});
  configure({.default_kernels = Names{}});
  EXPECT_EQ(ran("test_seven"), 1);
}

// Of two kernels the first is meant for fewer than 100 elements, and would be the default of others
// too.
const Operator& suited() {
  static const Operator& made = []() -> const Operator& {
    spec::Op op = elementwise("test_suited", {"x"}, "y", std::string("7 * ") + kFirst);
    op.mlx = [](const spec::Op::Arrays& in, std::span<const double>, const mx::Stream& s) {
      return spec::Op::Arrays{mx::add(in[0], mx::array(0.0f), s)};
    };
    spec::Variant longer = op.variants.front();
    longer.name = "longer";
    longer.source.replace(longer.source.find("7 * "), 4, "11 * ");
    op.variants.front().suits = [](const spec::Dims& dims) { return dims.at("n") < 100; };
    op.variants.push_back(longer);
    return add_operator(op);
  }();
  return made;
}

TEST_F(DefaultKernels, AreOfTheFirstVariantThatIsMeantForTheSize) {
  suited();
  configure({.default_kernels = Names{"test_suited"}});
  EXPECT_EQ(ran("test_suited", 99), 7);
  EXPECT_EQ(ran("test_suited", 100), 11);
}

TEST_F(DefaultKernels, APinComesFirst) {
  pin({entry_of(seven(), {{"n", 8}}, 3)});
  configure({.default_kernels = Names{"test_seven"}});
  EXPECT_EQ(ran("test_seven", 8), 21);
  EXPECT_EQ(ran("test_seven", 9), 7);
  const Stats now = stats();
  EXPECT_EQ(now.hits, 1u);
  EXPECT_EQ(now.defaults, 1u);
  EXPECT_EQ(now.misses, 0u);
  EXPECT_EQ(now.calls, 2u);
}

TEST_F(DefaultKernels, AreCountedByOpAndSizeAcrossThreads) {
  configure({.default_kernels = Names{"test_seven"}});
  for (int i = 0; i < 3; ++i) ran("test_seven", 6);
  std::thread([] { call("test_seven", {all_ones({6})}); }).join();
  ran("test_seven", 7);
  const Stats now = stats();
  EXPECT_EQ(now.defaults, 5u);
  ASSERT_EQ(now.by_default.size(), 2u);
  EXPECT_EQ(now.by_default[0].shape, "n=6");
  EXPECT_EQ(now.by_default[0].calls, 4u);
  EXPECT_EQ(base::Json::parse(to_json(now))["by_default"][0]["op"], "test_seven");
  reset_stats();
  EXPECT_EQ(stats().defaults, 0u);
  EXPECT_TRUE(stats().by_default.empty());
}

TEST_F(DefaultKernels, MlxRunsWhereTheKernelCannotAndExplainSaysWhy) {
  configure({.default_kernels = Names{"test_broken"}});
  const auto why = [] { return explain("test_broken", {all_ones({8})}); };
  EXPECT_TRUE(why().by_default);
  EXPECT_EQ(ran("test_broken"), 1);
  EXPECT_EQ(ran("test_broken"), 1);
  EXPECT_EQ(stats().defaults, 0u);
  EXPECT_EQ(stats().misses, 2u);
  EXPECT_FALSE(why().by_default);
  expect_part(why().reason, "but MLX's form runs: its kernel cannot be used");
  expect_part(why().reason, "no_such_name");
}

TEST_F(DefaultKernels, ExplainSaysThatItRuns) {
  configure({.default_kernels = Names{"test_seven"}});
  const Explanation why = explain("test_seven", {all_ones({8})});
  EXPECT_TRUE(why.by_default);
  EXPECT_FALSE(why.pinned);
  expect_part(why.reason, "the op's default kernel runs, as the settings ask");
}

TEST_F(DefaultKernels, TransformationsGoThroughMlx) {
  configure({.default_kernels = Names{"test_seven"}});
  const auto sum = [](const mx::array& x) { return mx::sum(call("test_seven", {x})[0]); };
  EXPECT_EQ(first(mx::grad(sum)(all_ones({8}))), 1);
}

void call_without_pins(int calls) {
  for (int i = 0; i < calls; ++i) call("test_seven", {all_ones({8})});
  std::fputs("end\n", stderr);
  std::_Exit(0);
}

TEST_F(DefaultKernels, CountAsMatchesForTheWarningThatNoPinEverMatched) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  pin({marking_entry("rmsnorm", {{"rows", 2}, {"D", 8}}, 12)});
  configure({.default_kernels = Names{"test_seven"}});
  EXPECT_EXIT(call_without_pins(3000), testing::ExitedWithCode(0), "^end\n$");
}

TEST_F(DefaultKernels, UnknownNamesAreRefusedAndChangeNothing) {
  configure({.default_kernels = Names{"test_seven"}});
  expect_part(refusal<base::Error>([] { configure({.default_kernels = Names{"no_such_op"}}); }),
              "[runtime] default_kernels names 'no_such_op', which is not an operator");
  EXPECT_EQ(settings().default_kernels, Names{"test_seven"});
}

}  // namespace
}  // namespace mlx_kd::runtime
