#include "mlx_kd/evaluate/proof/proof_plan.h"

#include <gtest/gtest.h>

#include <set>

#include "mlx_kd/base/error.h"
#include "mlx_kd/evaluate/proof/inputs.h"
#include "mlx_kd/kernels/op_table.h"

namespace mlx_kd::evaluate {
namespace {

using spec::Dims;
using spec::Dtype;

const spec::Op& op() {
  return kernels::find_op("rmsnorm");
}

CasePlan plan_of(const std::vector<Dims>& sizes, const Protocol& protocol = {}) {
  return plan_cases(op(), Dtype::float32, sizes, spec::default_scalars(op()), protocol);
}

TEST(Cases, NineAtTheSmallestSizeAndOneAtEachOther) {
  const CasePlan plan =
      plan_of({{{"rows", 8}, {"D", 64}}, {{"rows", 2}, {"D", 64}}, {{"rows", 4}, {"D", 64}}});
  ASSERT_EQ(plan.cases.size(), 11u);
  std::set<std::pair<uint64_t, spec::Distribution>> nine;
  for (size_t i = 0; i < 9; ++i) {
    EXPECT_EQ(plan.cases[i].size, 1u);
    nine.emplace(plan.cases[i].seed, plan.cases[i].distribution);
  }
  EXPECT_EQ(nine.size(), 9u);
  EXPECT_EQ(plan.cases[9].size, 0u);
  EXPECT_EQ(plan.cases[10].size, 2u);
}

TEST(Cases, EveryProvedScalarIsUsed) {
  std::set<double> used;
  for (const Case& c : plan_of({{{"rows", 2}, {"D", 64}}}).cases) used.insert(c.scalars.at(0));
  for (double value : op().scalars.at(0).proved) EXPECT_EQ(used.count(value), 1u);
}

TEST(Cases, AValueThatIsTimedIsProvedToo) {
  const CasePlan plan =
      plan_cases(op(), Dtype::float32, {{{"rows", 2}, {"D", 64}}}, {0.25}, Protocol());
  EXPECT_EQ(plan.cases.front().scalars.at(0), 0.25);
}

TEST(Cases, SpansDoNotOverlapAndInputsEndAtAGuardPage) {
  int64_t end = 0;
  for (const Case& c : plan_of({{{"rows", 3}, {"D", 37}}, {{"rows", 5}, {"D", 37}}}).cases) {
    for (const Span& span : c.inputs) {
      EXPECT_GT(span.bytes, 0);
      EXPECT_GE(span.offset, end);
      end = span.offset + span.bytes;
      EXPECT_EQ(end % page_bytes(), 0);
      end += page_bytes();
    }
    for (const OutputSpans& output : c.outputs)
      for (const Span& span : {output.expected, output.y64, output.bound}) {
        EXPECT_GT(span.bytes, 0);
        EXPECT_GE(span.offset, end);
        end = span.offset + span.bytes;
      }
  }
}

TEST(Cases, ReferencesStayWithinTheirMemoryByProvingFewerRows) {
  Protocol protocol;
  protocol.reference_bytes = 4 << 20;
  const CasePlan plan =
      plan_of({{{"rows", 16}, {"D", 64}}, {{"rows", 100000}, {"D", 64}}}, protocol);
  const Span last = plan.cases.back().outputs.back().bound;
  EXPECT_LE(last.offset + last.bytes, protocol.reference_bytes);
  EXPECT_EQ(plan.cases.front().dims.at("rows"), 16);
  EXPECT_LT(plan.cases.back().dims.at("rows"), 100000);
  EXPECT_GT(plan.cases.back().dims.at("rows"), 1000);
}

TEST(Cases, ARowThatDoesNotFitIsRefused) {
  Protocol protocol;
  protocol.reference_bytes = 1 << 20;
  EXPECT_THROW(plan_of({{{"rows", 1}, {"D", 1000000}}}, protocol), base::Error);
}

TEST(Inputs, AreTheSameForTheSameCaseAndDifferBetweenSeeds) {
  const CasePlan plan = plan_of({{{"rows", 2}, {"D", 64}}});
  const auto fill = [&](const Case& c) {
    std::vector<float> x(128), w(64);
    fill_inputs(op(), Dtype::float32, c, {x.data(), w.data()});
    return x;
  };
  EXPECT_EQ(fill(plan.cases[0]), fill(plan.cases[0]));
  EXPECT_NE(fill(plan.cases[0]), fill(plan.cases[3]));
}

}  // namespace
}  // namespace mlx_kd::evaluate
