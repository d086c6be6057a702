// What the proof of a setting is about: the kernel with its launches, and the reference. A winner
// of another digest is a winner of another kernel.
#pragma once

#include <string>
#include <vector>

#include "mlx_kd/runtime/tuning/autotune.h"

namespace mlx_kd::runtime {

// Of `text`, which kd tune reads, and of the graph that the reference makes of such arrays: its
// operations with their arguments and constants. Throws what the reference throws, and where it
// reads values.
std::string autotune_digest(const std::string& text, const Autotune& options,
                            const std::vector<mlx::core::array>& inputs);

}  // namespace mlx_kd::runtime
