// Kernels that are to serve a range of row counts: who goes to the finals, and what is claimed.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "mlx_kd/archive/run/run_data.h"
#include "mlx_kd/evaluate/evaluator.h"
#include "mlx_kd/packs/entry.h"
#include "mlx_kd/shapes/row_range.h"

namespace mlx_kd::discover {

// A kernel that was proved, and claimed to be faster than MLX, at every sampled row count from lo
// to hi.
struct RangeClaim {
  size_t size;                   // index of the size whose entry states the range
  const evaluate::Claim* claim;  // of that size
  packs::DimRange rows;          // at least two sampled counts
};

// Adds to each size's finalists those that are the best on average over all sizes of the range with
// the same other dims, `count` at most: a range needs one kernel that is claimed at every point.
void add_range_finalists(const spec::Op& op, const shapes::RowRange& range,
                         const std::vector<archive::Record>& records,
                         const std::vector<spec::Dims>& sizes, size_t count,
                         std::vector<std::vector<spec::Candidate>>& finalists);

// Per other dims: the kernel that is claimed at the most points in a row, then the same among the
// points below and above it, so that the ranges are disjoint. A range may be narrower than asked
// for, and there may be none: nothing is stated beyond the points where the kernel was surely
// faster. The size whose entry carries a range is the one where the kernel is nearest to (or is)
// the winner.
std::vector<RangeClaim> choose_ranges(const spec::Op& op, const shapes::RowRange& range,
                                      const std::vector<evaluate::Claim>& claims,
                                      const std::vector<spec::Dims>& sizes,
                                      const std::vector<const evaluate::Claim*>& winners);

}  // namespace mlx_kd::discover
