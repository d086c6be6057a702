// The largest operator that every room can carry. check() (op.h) names what exceeds them when the
// table of operators is made; nothing is cut off later.
#pragma once

#include <cstddef>
#include <cstdint>

namespace mlx_kd::spec {

inline constexpr size_t kMostInputs = 16;
inline constexpr size_t kMostOutputs = 8;
inline constexpr size_t kMostDims = 16;    // dims and attributes together, derived ones included
inline constexpr size_t kMostScalars = 8;  // numbers passed in addition to the arrays
inline constexpr size_t kMostScratch = 4;  // scratch arrays of a variant
inline constexpr size_t kMostAxes = 4;     // of an array
inline constexpr size_t kMostStages = 4096;
inline constexpr size_t kMostKnobs = 16;

}  // namespace mlx_kd::spec
