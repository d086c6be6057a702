// What kind of trace a call is in. MLX does not export how to ask, so a question is
// put to operators that answer it by what they do.
#pragma once

#include <vector>

#include "mlx/array.h"

namespace mlx_kd::runtime {

// Whether a pinned kernel may be in this graph: not in one that is exported (a file can hold
// MLX's operators alone), nor in one compiled for any shape (a kernel is for one size). Costs a few
// ns where no input is a tracer, some us in a trace.
bool may_pin(const std::vector<mlx::core::array>& inputs);

}  // namespace mlx_kd::runtime
