// Copies of arrays with other strides, for ports that take views as they are.
#pragma once

#include <cstddef>
#include <vector>

#include "mlx_kd/spec/op/port.h"

namespace mlx_kd::evaluate {

enum class ViewKind {
  row_major,   // as it is
  gaps,        // rows are apart, as those of a slice of a larger array are
  transposed,  // the axes before the last lie in reverse order in memory, as after a transpose
};

// The array with the strides of such a view; its last axis stays contiguous.
spec::ArraySpec view_of(const spec::ArraySpec& array, ViewKind kind);

// Bytes from the first to the last element of the view.
int64_t span_bytes(const spec::ArraySpec& view);

// The row-major `data` laid out as the view, what lies between its elements filled with NaN.
std::vector<std::byte> laid_out(const void* data, const spec::ArraySpec& view);

}  // namespace mlx_kd::evaluate
