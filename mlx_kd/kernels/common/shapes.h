// Shapes of a call's arrays: as messages show them, and whether an optional array was left out.
#pragma once

#include <mlx/array.h>

#include <string>

#include "mlx_kd/spec/op/op.h"

namespace mlx_kd::kernels {

// "(1, 2048)"
template <class Extents>
std::string shape_text(const Extents& extents) {
  std::string text;
  for (const auto extent : extents) text += (text.empty() ? "" : ", ") + std::to_string(extent);
  return "(" + text + ")";
}

// The array in place of an optional one that was left out has one axis and no elements.
inline bool is_left_out(const spec::ArrayView& array) {
  return array.shape.size() == 1 && array.shape[0] == 0;
}
inline bool is_left_out(const mlx::core::array& array) {
  return array.ndim() == 1 && array.shape(0) == 0;
}

}  // namespace mlx_kd::kernels
