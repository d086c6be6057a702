// The space of a run drawn in the plane.
#pragma once

#include <array>
#include <vector>

namespace mlx_kd::archive {

// Principal component analysis: each row's coordinates along the two directions in which the rows
// differ most. Rows may differ in length (missing entries count as 0). Empty where fewer than three
// rows, or rows that do not differ, leave nothing to draw. Pure: the same rows, the same picture.
std::vector<std::array<double, 2>> embed_2d(const std::vector<std::vector<double>>& rows);

}  // namespace mlx_kd::archive
