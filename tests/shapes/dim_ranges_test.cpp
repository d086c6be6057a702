#include "mlx_kd/shapes/dim_ranges.h"

#include <gtest/gtest.h>

#include "mlx_kd/base/error.h"

namespace mlx_kd::shapes {
namespace {

using Rows = std::vector<int64_t>;

spec::Op ranged_op() {
  spec::Op op;
  op.name = "rows_op";
  op.dims = {{"rows"}, {"D"}, {.name = "S", .free = true}};
  op.batch_dim = "rows";
  op.complete = [](const spec::Dims& given) {
    spec::Dims dims = given;
    dims.set("N", given.at("rows") * given.at("D"));
    return dims;
  };
  return op;
}

std::string refusal(const std::vector<std::string>& ranges, const std::string& row_range = "",
                    const spec::Op& op = ranged_op()) try {
  parse_ranges(op, ranges, row_range);
  return "";
} catch (const base::Error& error) {
  EXPECT_EQ(error.exit_code(), 2);
  return error.what();
}

TEST(DimRanges, AreOfFreeDimsAndTheBatchDimInTheOrderOfTheOp) {
  const spec::Op op = ranged_op();
  EXPECT_EQ(ranged_dims(op), (std::vector<std::string>{"rows", "S"}));
  const DimRange rows{"rows", 1, 512}, keys{"S", 2, 9};
  EXPECT_EQ(parse_ranges(op, {}, "1:512"), DimRanges{rows});
  EXPECT_EQ(parse_ranges(op, {"rows=1:512"}, ""), DimRanges{rows});
  EXPECT_EQ(parse_ranges(op, {"S=2:9", "rows=1:512"}, ""), (DimRanges{rows, keys}));
  EXPECT_EQ(parse_ranges(op, {"S=2:9"}, "1:512"), (DimRanges{rows, keys}));
}

TEST(DimRanges, EndsAreTwoSizesInRisingOrder) {
  for (const char* text : {":", "1", "1:", ":2", "0:4", "-1:4", "4:4", "5:4", "1:2:3", "a:b",
                           "1:9999999999", "1:1e3", " 1:2", "1 :2", "1:99999999999999999999"}) {
    EXPECT_NE(refusal({}, text).find("--row-range is '" + std::string(text) + "'"),
              std::string::npos)
        << text;
    EXPECT_NE(
        refusal({"S=" + std::string(text)})
            .find("--range of 'S' is '" + std::string(text) + "': give the least and the most"),
        std::string::npos)
        << text;
  }
}

TEST(DimRanges, OfAnotherDimAreRefusedWithThoseThatMayVary) {
  EXPECT_EQ(refusal({"D=1:8"}),
            "[shapes] --range is of 'D': a range may be of 'rows' or 'S' of op 'rows_op'");
  for (const char* text : {"", "=1:8", "1:8", "rows"})
    EXPECT_NE(refusal({text}).find("may be of 'rows' or 'S'"), std::string::npos) << text;
  EXPECT_NE(refusal({"rows=1:8"}, "1:8").find("two ranges of 'rows'"), std::string::npos);
  EXPECT_NE(refusal({"S=1:8", "S=1:9"}).find("two ranges of 'S'"), std::string::npos);
  spec::Op fixed = ranged_op();
  fixed.batch_dim.clear();
  fixed.dims.pop_back();
  EXPECT_NE(refusal({"D=1:8"}, "", fixed).find("has no dim of which"), std::string::npos);
  EXPECT_NE(refusal({}, "1:8", fixed).find("has no batch dim"), std::string::npos);
}

TEST(DimRanges, AreSampledAtTheirEndsAndBetweenAtOddAndEvenCounts) {
  EXPECT_EQ(sample_range({"rows", 1, 512}), (Rows{1, 3, 12, 47, 188, 512}));
  EXPECT_EQ(sample_range({"rows", 1, 2}), (Rows{1, 2}));
  EXPECT_EQ(sample_range({"rows", 1000, 1001}), (Rows{1000, 1001}));
  EXPECT_EQ(sample_range({"rows", 1, 4096, {7, 100}}), (Rows{1, 7, 100, 4096}));
}

TEST(DimRanges, SamplesRiseWithinTheRangeAndLeaveNoWideGap) {
  for (int64_t lo = 1; lo < 50; ++lo)
    for (int64_t hi = lo + 1; hi < 3000; hi += 7) {
      const Rows rows = sample_range({"rows", lo, hi});
      ASSERT_EQ(rows.front(), lo);
      ASSERT_EQ(rows.back(), hi);
      for (size_t i = 1; i < rows.size(); ++i) {
        ASSERT_GT(rows[i], rows[i - 1]);
        ASSERT_LE(rows[i], 4 * rows[i - 1]) << lo << ":" << hi;
      }
    }
}

spec::Dims size_of(int64_t rows, int64_t d, int64_t s = 1) {
  return spec::complete(ranged_op(), {{"rows", rows}, {"D", d}, {"S", s}});
}

TEST(DimRanges, JoinTheSizesOnceForEachOfTheirOtherDims) {
  const Sizes sizes = {"mine", {size_of(2, 8), size_of(1, 8), size_of(9, 16)}};
  const Sizes joined = with_ranges(ranged_op(), sizes, {{"rows", 1, 2}});
  EXPECT_EQ(joined.suite_name, "mine");
  EXPECT_EQ(joined.sizes, (std::vector<spec::Dims>{size_of(2, 8), size_of(1, 8), size_of(9, 16),
                                                   size_of(1, 16), size_of(2, 16)}));
  EXPECT_EQ(with_ranges(ranged_op(), sizes, {}).sizes, sizes.sizes);
}

TEST(DimRanges, OfSeveralDimsAreSampledInAllCombinations) {
  const Sizes joined =
      with_ranges(ranged_op(), {"mine", {size_of(2, 8, 5)}}, {{"rows", 1, 3}, {"S", 5, 9}});
  std::vector<spec::Dims> wanted = {size_of(2, 8, 5)};
  for (int64_t rows : {1, 2, 3})
    for (int64_t s : {5, 9})
      if (size_of(rows, 8, s) != wanted[0]) wanted.push_back(size_of(rows, 8, s));
  EXPECT_EQ(joined.sizes, wanted);
}

TEST(DimRanges, ThatSampleTooManySizesAreRefused) {
  const int64_t most = int64_t(1) << 31;
  const Sizes sizes{"mine", {size_of(1, 1)}};
  try {
    with_ranges(ranged_op(), sizes, {{"rows", 1, most}, {"S", 1, most}});
    ADD_FAILURE() << "no misuse";
  } catch (const base::Error& error) {
    EXPECT_NE(std::string(error.what()).find("sample 289 sizes, 256 are the most"),
              std::string::npos)
        << error.what();
  }
}

TEST(DimRanges, GridsAreCompletedFromTheSizesInside) {
  std::vector<spec::Dims> sizes = {size_of(1, 8, 5), size_of(2, 8, 7), size_of(99, 8, 6)};
  complete_grids(ranged_op(), {{"rows", 1, 3}, {"S", 5, 9}}, sizes);
  EXPECT_EQ(sizes, (std::vector<spec::Dims>{size_of(1, 8, 5), size_of(2, 8, 7), size_of(99, 8, 6),
                                            size_of(1, 8, 7), size_of(2, 8, 5)}));
}

TEST(DimRanges, WhatDiffersInRangedDimsAloneHasTheSameRest) {
  const auto rest = [&](int64_t rows, int64_t d, int64_t s) {
    return rest_of(ranged_op(), {{"rows", 1, 2}, {"S", 1, 2}}, size_of(rows, d, s));
  };
  EXPECT_EQ(rest(1, 8, 3), rest(2, 8, 4));
  EXPECT_EQ(rest(1, 8, 3), "D=8");
  EXPECT_NE(rest(1, 8, 3), rest(1, 16, 3));
}

}  // namespace
}  // namespace mlx_kd::shapes
