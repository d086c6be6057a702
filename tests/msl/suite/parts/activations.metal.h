// Included by language.metal.
#pragma once

namespace parts {
template <typename T>
inline T relu(T v) {
  return metal::max(v, T(0));
}
constant float kSlope = 0.125f;
}  // namespace parts
