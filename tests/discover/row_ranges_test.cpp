#include "mlx_kd/discover/row_ranges.h"

#include <gtest/gtest.h>

#include "mlx_kd/discover/choice.h"

namespace mlx_kd::discover {
namespace {

using Rows = std::vector<int64_t>;

class RowRanges : public testing::Test {
 protected:
  RowRanges() {
    op_.name = "rows_op";
    op_.dims = {{"rows"}, {"D"}};
    op_.batch_dim = "rows";
  }

  static spec::Dims size(int64_t rows, int64_t d = 64) { return {{"rows", rows}, {"D", d}}; }

  // A claim of `id` at some rows; a speed-up of at most 1 is not claimed.
  void claim(const std::string& id, int64_t rows, double speedup, int64_t d = 64) {
    evaluate::Claim claim;
    claim.dims = size(rows, d);
    claim.candidate_id = id;
    claim.metrics.speedup_vs_ref = claim.metrics.speedup_lo = speedup;
    claim.metrics.kernel_us = 1 / speedup;
    claim.claimed = speedup > 1;
    claims_.push_back(claim);
  }

  std::vector<RangeClaim> choose(const std::vector<spec::Dims>& sizes,
                                 const shapes::RowRange& range = {1, 64}) {
    sizes_ = sizes;
    return choose_ranges(op_, range, claims_, sizes, choose_winners(claims_, sizes));
  }

  spec::Op op_;
  std::vector<evaluate::Claim> claims_;
  std::vector<spec::Dims> sizes_;
};

TEST_F(RowRanges, OneKernelFasterEverywhereServesAll) {
  for (int64_t rows : {1, 8, 64}) claim("a", rows, 2);
  const auto ranges = choose({size(64), size(1), size(8)});
  ASSERT_EQ(ranges.size(), 1u);
  EXPECT_EQ(ranges[0].rows.lo, 1);
  EXPECT_EQ(ranges[0].rows.hi, 64);
  EXPECT_EQ(ranges[0].rows.sampled, (Rows{1, 8, 64}));
  EXPECT_EQ(ranges[0].claim->candidate_id, "a");
  EXPECT_EQ(ranges[0].claim->dims, sizes_[ranges[0].size]);
}

TEST_F(RowRanges, ARangeNeverReachesOverAPointThatWasNotClaimed) {
  for (int64_t rows : {1, 4, 64}) claim("a", rows, 2);
  claim("a", 16, 0.99);
  const auto ranges = choose({size(1), size(4), size(16), size(64)});
  ASSERT_EQ(ranges.size(), 1u);
  EXPECT_EQ(ranges[0].rows.sampled, (Rows{1, 4}));
}

TEST_F(RowRanges, TheWiderServesBeforeTheFaster) {
  for (int64_t rows : {1, 4, 16}) claim("wide", rows, 1.1);
  for (int64_t rows : {1, 4}) claim("fast", rows, 9);
  const auto ranges = choose({size(1), size(4), size(16)});
  ASSERT_EQ(ranges.size(), 1u);
  EXPECT_EQ(ranges[0].claim->candidate_id, "wide");
  // Its entry stands where it wins itself.
  EXPECT_EQ(ranges[0].claim->dims, size(16));
}

TEST_F(RowRanges, WhatOneKernelCannotServeAnotherDoes) {
  for (int64_t rows : {1, 4, 8}) claim("small", rows, 3);
  for (int64_t rows : {8, 16, 64}) claim("large", rows, 2);
  const auto ranges = choose({size(1), size(4), size(8), size(16), size(64)});
  ASSERT_EQ(ranges.size(), 2u);
  EXPECT_EQ(ranges[0].rows.sampled, (Rows{1, 4, 8}));
  EXPECT_EQ(ranges[1].rows.sampled, (Rows{16, 64}));
}

TEST_F(RowRanges, EntriesOfTwoRangesNeverShareASize) {
  for (int64_t rows : {1, 4, 16, 64}) claim(rows < 10 ? "a" : "b", rows, 2);
  const auto ranges = choose({size(1), size(4), size(16), size(64)});
  ASSERT_EQ(ranges.size(), 2u);
  EXPECT_NE(ranges[0].size, ranges[1].size);
}

TEST_F(RowRanges, OnePointIsNoRangeAndOtherWidthsAreOtherRanges) {
  claim("a", 1, 2);
  claim("a", 4, 2, 128);
  EXPECT_TRUE(choose({size(1), size(4, 128)}).empty());
}

TEST_F(RowRanges, SizesOutsideAreNoSamples) {
  for (int64_t rows : {1, 4, 1024}) claim("a", rows, 2);
  const auto ranges = choose({size(1), size(4), size(1024)});
  ASSERT_EQ(ranges.size(), 1u);
  EXPECT_EQ(ranges[0].rows.hi, 4);
}

TEST_F(RowRanges, TheBestOnAverageGoToTheFinalsOfEverySizeOnce) {
  const std::vector<spec::Dims> sizes = {size(1), size(4), size(1024)};
  std::vector<archive::Record> records(3);
  const double log_ratios[3][2] = {{-3, 0}, {-2, -2}, {0, -1}};
  for (size_t i = 0; i < records.size(); ++i) {
    records[i].candidate.func_name = std::string(1, static_cast<char>('a' + i));
    records[i].candidate_id = records[i].candidate.id();
    records[i].verdict.status = spec::Status::benchmarked;
    for (double log_ratio : log_ratios[i]) {
      records[i].verdict.sizes.push_back({});
      records[i].verdict.sizes.back().metrics.log_ratio = log_ratio;
    }
    records[i].verdict.sizes.push_back({});
    records[i].verdict.sizes.back().metrics.log_ratio = 0;
  }
  auto finalists = choose_finalists(records, sizes.size(), 1);
  ASSERT_EQ(finalists[0].front().func_name, "a");
  add_range_finalists(op_, {1, 64}, records, sizes, 1, finalists);
  ASSERT_EQ(finalists[0].size(), 2u);
  EXPECT_EQ(finalists[0][1].func_name, "b");
  EXPECT_EQ(finalists[1].size(), 1u);
  EXPECT_EQ(finalists[2].size(), 1u);
}

}  // namespace
}  // namespace mlx_kd::discover
