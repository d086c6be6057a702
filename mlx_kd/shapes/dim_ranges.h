// Ranges of sizes that one kernel is to serve: of which dims, and where they are sampled.
#pragma once

#include <set>
#include <string>
#include <vector>

#include "mlx_kd/shapes/sizes.h"

namespace mlx_kd::shapes {

inline constexpr size_t kMostRangeSizes = 256;  // that several ranges sample, other dims equal

// Of one dim of an op, both ends included.
struct DimRange {
  std::string dim;
  int64_t lo = 1, hi = 1;
  std::vector<int64_t> inside = {};  // where it is sampled between, rising; empty: as sample_range
  bool holds(int64_t value) const { return lo <= value && value <= hi; }
  friend bool operator==(const DimRange&, const DimRange&) = default;
};
using DimRanges = std::vector<DimRange>;      // each of another dim, in the order of the op's dims
using Axes = std::vector<std::set<int64_t>>;  // values of the dims of DimRanges

// The dims that a range may be of: the free ones and the batch dim, in the op's order.
std::vector<std::string> ranged_dims(const spec::Op& op);

// `ranges`: "S=1:4096" each; `row_range`: "1:512", of the batch dim, or empty. Misuse for
// another text, another dim, two ranges of one dim, or ends other than two integers from 1 to 2^31
// in rising order.
DimRanges parse_ranges(const spec::Op& op, const std::vector<std::string>& ranges,
                       const std::string& row_range);

// Both ends, and between them `inside`, or points at most a factor of four apart, odd and even in
// turn: a kernel that takes rows in pairs or fours meets a count that it cannot divide.
std::vector<int64_t> sample_range(const DimRange& range);

// `sizes`, then for each of them the sampled sizes that are not there yet, in rising order: all
// combinations of the samples of each range, and of the sizes that are given inside the ranges.
// Misuse where those are more than kMostRangeSizes.
Sizes with_ranges(const spec::Op& op, const Sizes& sizes, const DimRanges& ranges);

// Adds the combinations of the sizes that are there inside the ranges, as with_ranges does.
void complete_grids(const spec::Op& op, const DimRanges& ranges, std::vector<spec::Dims>& sizes);

// The size with all combinations of the values of the ranges' dims. Misuse as by checked_size, and
// where they are too many.
std::vector<spec::Dims> sizes_of_grid(const spec::Op& op, const spec::Dims& size,
                                      const DimRanges& ranges, const Axes& axes);

bool holds(const DimRanges& ranges, const spec::Dims& size);

// The dims that have no range, as text: sizes with the same one differ in the others alone.
std::string rest_of(const spec::Op& op, const DimRanges& ranges, const spec::Dims& size);

}  // namespace mlx_kd::shapes
