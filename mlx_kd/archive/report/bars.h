// Horizontal bars with their labels above them, so that long labels fit a narrow screen.
#pragma once

#include <string>
#include <vector>

#include "mlx_kd/spec/verdict.h"

namespace mlx_kd::archive {

struct Bar {
  std::string label, text;  // text is at the right of the label
  double value;             // >= 0; nothing is drawn if it is not finite
  double lo = spec::kUnmeasured, hi = spec::kUnmeasured;  // a whisker where both are finite
  std::string style = "c1";                               // CSS class
};

// `mark`: a value to draw a line at, NaN for none. The longest bar fills the width, unless `full`,
// the value that would, is larger. "" if there are no bars.
std::string bar_chart(const std::string& name, const std::vector<Bar>& bars,
                      double mark = spec::kUnmeasured, double full = 0);

}  // namespace mlx_kd::archive
