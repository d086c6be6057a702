// Calls of operators that follow one another, as one operation of MLX's graph.
//
// A decoder layer's step is made of the same calls in every layer: made once, they are called again
// with the arrays of the next layer, without a lookup, a graph or an evaluation per operator.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "mlx/array.h"
#include "mlx_kd/base/api.h"
#include "mlx_kd/runtime/state/call_counts.h"

namespace mlx_kd::runtime {

// Belongs to the thread that made it.
class CallGroup;

struct Grouped {
  std::vector<mlx::core::array> outputs;   // lazy: what the calls give
  std::shared_ptr<const CallGroup> group;  // nullptr where they cannot be one operation
};

// What `build` makes of the inputs by calls of operators. One operation where all of them run
// kernels that can be (devices::group_operations) and calls are not logged; else as `build` gives
// it. Throws what `build` throws.
MLX_KD_API Grouped as_group(const std::vector<mlx::core::array>& inputs,
                            const std::function<std::vector<mlx::core::array>()>& build);

// The same calls on other arrays of the same shapes, types and numbers; counted as before.
MLX_KD_API std::vector<mlx::core::array> call_again(const CallGroup& group,
                                                    const std::vector<mlx::core::array>& inputs);

// Adds one, and once more each time that a group is called which is being made.
void count(Counter& counter);

}  // namespace mlx_kd::runtime
