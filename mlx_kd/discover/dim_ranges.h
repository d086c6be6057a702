// Kernels that are to serve ranges of sizes: who goes to the finals, and what is claimed.
#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include "mlx_kd/archive/run/run_data.h"
#include "mlx_kd/evaluate/evaluator.h"
#include "mlx_kd/packs/entry.h"
#include "mlx_kd/shapes/dim_ranges.h"

namespace mlx_kd::discover {

// A kernel that was proved, and claimed, at every sampled size of a box: one range per dim.
struct RangeClaim {
  size_t size;                                    // index of the size whose entry states the ranges
  const evaluate::Claim* claim;                   // of that size
  std::map<std::string, packs::DimRange> ranges;  // at least two sampled values each
};

// Adds to each size's finalists those that are the best on average over all sizes inside the ranges
// with the same other dims, `count` at most: a range needs one kernel that is claimed at every
// point.
void add_range_finalists(const spec::Op& op, const shapes::DimRanges& ranges,
                         const std::vector<archive::Record>& records,
                         const std::vector<spec::Dims>& sizes, size_t count,
                         std::vector<std::vector<spec::Candidate>>& finalists);

// Per other dims: the box of points in which one kernel is claimed at the most points, then the
// same in what is left around it, so that the boxes are disjoint. A range may be narrower than
// asked for, and there may be none: nothing is stated beyond the points where the kernel was surely
// faster. The size whose entry carries a box is the one where the kernel is nearest to (or is) the
// winner, none of `taken`; a box without such a size is left out.
std::vector<RangeClaim> choose_ranges(const spec::Op& op, const shapes::DimRanges& ranges,
                                      const std::vector<evaluate::Claim>& claims,
                                      const std::vector<spec::Dims>& sizes,
                                      const std::vector<const evaluate::Claim*>& winners,
                                      const std::set<size_t>& taken = {});

}  // namespace mlx_kd::discover
