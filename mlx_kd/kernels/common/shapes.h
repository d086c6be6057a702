// Shapes of a call's arrays: as messages show them, and whether an optional array was left out.
#pragma once

#include <mlx/array.h>

#include <functional>
#include <initializer_list>
#include <string>
#include <vector>

#include "mlx_kd/spec/op/op.h"

namespace mlx_kd::kernels {

// "(1, 2048)"
template <class Extents>
std::string shape_text(const Extents& extents) {
  std::string text;
  for (const auto extent : extents) text += (text.empty() ? "" : ", ") + std::to_string(extent);
  return "(" + text + ")";
}

// What an op says of a call whose arrays do not go together: "[op] k has shape (2, 3): it must be
// (2, 4), as q says". Throws std::invalid_argument, and allocates only then.
struct PortShapes {
  const char* op;
  const char* const* ports;  // their names
  const char* as;            // "q says": what the others are compared with

  [[noreturn]] void refuse(size_t port, const spec::ArrayView& array,
                           const std::string& wanted) const;
  void check(size_t port, const spec::ArrayView& array,
             std::initializer_list<int64_t> wanted) const;
};

// The shape of a port whose extents are dims: shape_of({"B", "H", "S", "D"}).
std::function<spec::Shape(const spec::Dims&)> shape_of(std::vector<std::string> dims);

// The array in place of an optional one that was left out has one axis and no elements.
inline bool is_left_out(const spec::ArrayView& array) {
  return array.shape.size() == 1 && array.shape[0] == 0;
}
inline bool is_left_out(const mlx::core::array& array) {
  return array.ndim() == 1 && array.shape(0) == 0;
}

}  // namespace mlx_kd::kernels
