#include "mlx_kd/shapes/row_range.h"

#include <gtest/gtest.h>

#include "mlx_kd/base/error.h"

namespace mlx_kd::shapes {
namespace {

using Rows = std::vector<int64_t>;

spec::Op ranged_op() {
  spec::Op op;
  op.name = "rows_op";
  op.dims = {{"rows"}, {"D"}};
  op.batch_dim = "rows";
  op.complete = [](const spec::Dims& given) {
    spec::Dims dims = given;
    dims.set("N", given.at("rows") * given.at("D"));
    return dims;
  };
  return op;
}

TEST(RowRange, IsTwoRowCountsInRisingOrder) {
  EXPECT_EQ(parse_row_range("1:512").lo, 1);
  EXPECT_EQ(parse_row_range("1:512").hi, 512);
  for (const char* text : {"", ":", "1", "1:", ":2", "0:4", "-1:4", "4:4", "5:4", "1:2:3", "a:b",
                           "1:9999999999", "1:1e3", " 1:2", "1 :2", "1:99999999999999999999"})
    EXPECT_THROW(parse_row_range(text), base::Error) << text;
}

TEST(RowRange, IsSampledAtItsEndsAndBetweenAtOddAndEvenCounts) {
  EXPECT_EQ(sample_rows({1, 512}), (Rows{1, 3, 12, 47, 188, 512}));
  EXPECT_EQ(sample_rows({1, 2}), (Rows{1, 2}));
  EXPECT_EQ(sample_rows({1000, 1001}), (Rows{1000, 1001}));
}

TEST(RowRange, SamplesRiseWithinTheRangeAndLeaveNoWideGap) {
  for (int64_t lo = 1; lo < 50; ++lo)
    for (int64_t hi = lo + 1; hi < 3000; hi += 7) {
      const Rows rows = sample_rows({lo, hi});
      ASSERT_EQ(rows.front(), lo);
      ASSERT_EQ(rows.back(), hi);
      for (size_t i = 1; i < rows.size(); ++i) {
        ASSERT_GT(rows[i], rows[i - 1]);
        ASSERT_LE(rows[i], 4 * rows[i - 1]) << lo << ":" << hi;
      }
    }
}

TEST(RowRange, JoinsTheSizesOnceForEachOfTheirOtherDims) {
  const spec::Op op = ranged_op();
  const auto size = [&](int64_t rows, int64_t d) {
    return spec::complete(op, {{"rows", rows}, {"D", d}});
  };
  const Sizes sizes = {"mine", {size(2, 8), size(1, 8), size(9, 16)}};
  const Sizes joined = with_row_range(op, sizes, {1, 2});
  EXPECT_EQ(joined.suite_name, "mine");
  EXPECT_EQ(joined.sizes, (std::vector<spec::Dims>{size(2, 8), size(1, 8), size(9, 16), size(1, 16),
                                                   size(2, 16)}));
}

TEST(RowRange, WhatDiffersInRowsAloneHasTheSameRest) {
  const spec::Op op = ranged_op();
  const auto rest = [&](int64_t rows, int64_t d) {
    return rest_of(op, spec::complete(op, {{"rows", rows}, {"D", d}}));
  };
  EXPECT_EQ(rest(1, 8), rest(2, 8));
  EXPECT_EQ(rest(1, 8), "D=8");
  EXPECT_NE(rest(1, 8), rest(1, 16));
}

}  // namespace
}  // namespace mlx_kd::shapes
