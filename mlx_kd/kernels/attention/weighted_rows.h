// A row of attention in float64, once the shares of its keys are known.
#pragma once

#include <cmath>
#include <vector>

#include "mlx_kd/kernels/common/reference64.h"

namespace mlx_kd::kernels::attention {

// Elements as numbers, with the magnitudes of what each is made of.
struct SizedNumbers {
  std::vector<double> value, size;
};

// A key's share of the row, and how far the roundings of its score move it.
struct KeyShare {
  double share, moved;
};

// Appends `width` elements: sums over keys of the shares of their values. `value(i, d)` gives
// element d of key i, and the magnitude of what it is made of. `of_scores`: roundings of a score
// for each of those that the op's bound charges on a term.
template <class Value>
void append_weighted(const std::vector<KeyShare>& keys, int64_t width, double of_scores,
                     spec::Dtype t, const Value& value, spec::Reference64& result) {
  for (int64_t d = 0; d < width; ++d) {
    double y = 0, terms = 0, swayed = 0, sway = 0;
    for (size_t i = 0; i < keys.size(); ++i) {
      const auto [v, size] = value(i, d);
      y += keys[i].share * v;
      terms += keys[i].share * size;
      swayed += keys[i].moved * size;
      sway += keys[i].moved;
    }
    append(result,
           {y, std::fabs(y), terms + of_scores * (swayed + sway * std::fabs(y)), 2 * underflow(t)});
  }
}

}  // namespace mlx_kd::kernels::attention
