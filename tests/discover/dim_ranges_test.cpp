#include "mlx_kd/discover/dim_ranges.h"

#include <gtest/gtest.h>

#include "mlx_kd/discover/choice.h"

namespace mlx_kd::discover {
namespace {

using Rows = std::vector<int64_t>;

class DimRanges : public testing::Test {
 protected:
  DimRanges() {
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
                                 const shapes::DimRanges& ranges = {{"rows", 1, 64}},
                                 const std::set<size_t>& taken = {}) {
    sizes_ = sizes;
    return choose_ranges(op_, ranges, claims_, sizes, choose_winners(claims_, sizes), taken);
  }

  spec::Op op_;
  std::vector<evaluate::Claim> claims_;
  std::vector<spec::Dims> sizes_;
};

TEST_F(DimRanges, OneKernelFasterEverywhereServesAll) {
  for (int64_t rows : {1, 8, 64}) claim("a", rows, 2);
  const auto ranges = choose({size(64), size(1), size(8)});
  ASSERT_EQ(ranges.size(), 1u);
  EXPECT_EQ(ranges[0].ranges.at("rows").lo, 1);
  EXPECT_EQ(ranges[0].ranges.at("rows").hi, 64);
  EXPECT_EQ(ranges[0].ranges.at("rows").sampled, (Rows{1, 8, 64}));
  EXPECT_EQ(ranges[0].claim->candidate_id, "a");
  EXPECT_EQ(ranges[0].claim->dims, sizes_[ranges[0].size]);
}

TEST_F(DimRanges, ARangeNeverReachesOverAPointThatWasNotClaimed) {
  for (int64_t rows : {1, 4, 64}) claim("a", rows, 2);
  claim("a", 16, 0.99);
  const auto ranges = choose({size(1), size(4), size(16), size(64)});
  ASSERT_EQ(ranges.size(), 1u);
  EXPECT_EQ(ranges[0].ranges.at("rows").sampled, (Rows{1, 4}));
}

TEST_F(DimRanges, TheWiderServesBeforeTheFaster) {
  for (int64_t rows : {1, 4, 16}) claim("wide", rows, 1.1);
  for (int64_t rows : {1, 4}) claim("fast", rows, 9);
  const auto ranges = choose({size(1), size(4), size(16)});
  ASSERT_EQ(ranges.size(), 1u);
  EXPECT_EQ(ranges[0].claim->candidate_id, "wide");
  // Its entry stands where it wins itself.
  EXPECT_EQ(ranges[0].claim->dims, size(16));
}

TEST_F(DimRanges, WhatOneKernelCannotServeAnotherDoes) {
  for (int64_t rows : {1, 4, 8}) claim("small", rows, 3);
  for (int64_t rows : {8, 16, 64}) claim("large", rows, 2);
  const auto ranges = choose({size(1), size(4), size(8), size(16), size(64)});
  ASSERT_EQ(ranges.size(), 2u);
  EXPECT_EQ(ranges[0].ranges.at("rows").sampled, (Rows{1, 4, 8}));
  EXPECT_EQ(ranges[1].ranges.at("rows").sampled, (Rows{16, 64}));
}

TEST_F(DimRanges, EntriesOfTwoRangesNeverShareASize) {
  for (int64_t rows : {1, 4, 16, 64}) claim(rows < 10 ? "a" : "b", rows, 2);
  const auto ranges = choose({size(1), size(4), size(16), size(64)});
  ASSERT_EQ(ranges.size(), 2u);
  EXPECT_NE(ranges[0].size, ranges[1].size);
}

TEST_F(DimRanges, OnePointIsNoRangeAndOtherWidthsAreOtherRanges) {
  claim("a", 1, 2);
  claim("a", 4, 2, 128);
  EXPECT_TRUE(choose({size(1), size(4, 128)}).empty());
}

TEST_F(DimRanges, SizesOutsideAreNoSamples) {
  for (int64_t rows : {1, 4, 1024}) claim("a", rows, 2);
  const auto ranges = choose({size(1), size(4), size(1024)});
  ASSERT_EQ(ranges.size(), 1u);
  EXPECT_EQ(ranges[0].ranges.at("rows").hi, 4);
}

TEST_F(DimRanges, WhatMlxCannotDoIsClaimedWithoutASpeedUp) {
  for (int64_t rows : {1, 4}) {
    claim("a", rows, 2);
    claims_.back().metrics.speedup_vs_ref = claims_.back().metrics.speedup_lo = spec::kUnmeasured;
    claims_.back().kind = spec::ClaimKind::mlx_cannot;
  }
  const auto ranges = choose({size(1), size(4)});
  ASSERT_EQ(ranges.size(), 1u);
  EXPECT_EQ(ranges[0].ranges.at("rows").sampled, (Rows{1, 4}));
}

TEST_F(DimRanges, ASizeThatAlreadyStatesARangeStatesNoOther) {
  for (int64_t rows : {1, 4}) claim("a", rows, 1.5 + static_cast<double>(rows));
  EXPECT_EQ(choose({size(1), size(4)})[0].size, 0u);
  EXPECT_EQ(choose({size(1), size(4)}, {{"rows", 1, 64}}, {0})[0].size, 1u);
  EXPECT_TRUE(choose({size(1), size(4)}, {{"rows", 1, 64}}, {0, 1}).empty());
}

// Points (rows, D): a cross of claims, of which the larger arm is one box.
TEST_F(DimRanges, OfTwoDimsAreBoxesOfOneKernel) {
  std::vector<spec::Dims> sizes;
  for (int64_t rows : {1, 2, 3})
    for (int64_t d : {64, 128}) sizes.push_back(size(rows, d));
  for (const auto& [rows, d] : {std::pair{1, 64}, {2, 64}, {2, 128}, {3, 64}, {3, 128}})
    claim("a", rows, 2, d);
  const auto ranges = choose(sizes, {{"rows", 1, 3}, {"D", 64, 128}});
  ASSERT_EQ(ranges.size(), 1u);  // (1, 64) alone is left
  EXPECT_EQ(ranges[0].ranges.at("rows").sampled, (Rows{2, 3}));
  EXPECT_EQ(ranges[0].ranges.at("D").sampled, (Rows{64, 128}));
}

TEST_F(DimRanges, BoxesOfTwoDimsAreDisjointAndHoldNothingUnclaimed) {
  std::vector<spec::Dims> sizes;
  const Rows rows = {1, 2, 3, 4, 5}, widths = {8, 16, 32, 64};
  for (int64_t r : rows)
    for (int64_t d : widths) sizes.push_back(size(r, d));
  std::set<std::pair<std::string, std::pair<int64_t, int64_t>>> claimed;
  for (int64_t r : rows)
    for (int64_t d : widths)
      for (const char* id : {"a", "b"}) {
        if ((r * 7 + d * (id[0] - 'a' + 3)) % 5 == 0) continue;
        claim(id, r, 2, d);
        claimed.insert({id, {r, d}});
      }
  std::set<std::pair<int64_t, int64_t>> served;
  std::set<size_t> entries;
  for (const RangeClaim& range : choose(sizes, {{"rows", 1, 5}, {"D", 8, 64}})) {
    const auto values = [&](const char* dim) {
      const auto found = range.ranges.find(dim);
      return found == range.ranges.end() ? Rows{range.claim->dims.at(dim)} : found->second.sampled;
    };
    for (int64_t r : values("rows"))
      for (int64_t d : values("D")) {
        EXPECT_TRUE(claimed.count({range.claim->candidate_id, {r, d}})) << r << "x" << d;
        EXPECT_TRUE(served.insert({r, d}).second) << r << "x" << d;
      }
    EXPECT_TRUE(entries.insert(range.size).second);
    EXPECT_EQ(range.claim->dims, sizes[range.size]);
  }
  EXPECT_GT(served.size(), 12u);
}

TEST_F(DimRanges, OfTwoDimsKeepTheDimThatDoesNotVaryOutOfTheEntry) {
  for (int64_t rows : {1, 4}) claim("a", rows, 2, 64);
  claim("b", 1, 3, 128);
  claim("b", 4, 0.5, 128);
  const auto ranges = choose({size(1, 64), size(4, 64), size(1, 128), size(4, 128)},
                             {{"rows", 1, 4}, {"D", 64, 128}});
  ASSERT_EQ(ranges.size(), 1u);
  EXPECT_EQ(ranges[0].ranges.count("D"), 0u);
  EXPECT_EQ(ranges[0].claim->dims.at("D"), 64);
}

TEST_F(DimRanges, TheBestOnAverageGoToTheFinalsOfEverySizeOnce) {
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
  add_range_finalists(op_, {{"rows", 1, 64}}, records, sizes, 1, finalists);
  ASSERT_EQ(finalists[0].size(), 2u);
  EXPECT_EQ(finalists[0][1].func_name, "b");
  EXPECT_EQ(finalists[1].size(), 1u);
  EXPECT_EQ(finalists[2].size(), 1u);
}

}  // namespace
}  // namespace mlx_kd::discover
