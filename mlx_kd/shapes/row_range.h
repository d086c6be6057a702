// A range of row counts that one kernel is to serve: where it is sampled.
#pragma once

#include <string>
#include <vector>

#include "mlx_kd/shapes/sizes.h"

namespace mlx_kd::shapes {

// Of an op's first size name (rows; B for rope), both ends included.
struct RowRange {
  int64_t lo = 1, hi = 1;
  bool holds(int64_t rows) const { return lo <= rows && rows <= hi; }
};

// "1:512". Misuse for anything but two integers from 1 to 2^31 in rising order.
RowRange parse_row_range(const std::string& text);

// Both ends, and between them points at most a factor of four apart, odd and even in turn: a kernel
// that takes rows in pairs or fours meets a count that it cannot divide.
std::vector<int64_t> sample_rows(const RowRange& range);

// `sizes`, then for each of them the sampled row counts that are not there yet, in rising order.
Sizes with_row_range(const spec::Op& op, const Sizes& sizes, const RowRange& range);

// All sizes but the first as text: sizes with the same one differ in rows alone.
std::string rest_of(const spec::Op& op, const spec::Dims& size);

}  // namespace mlx_kd::shapes
