// Whether an array may be overwritten while MLX still holds it: the holders are counted.
//
// MLX holds the memory of what an operation writes, of all outputs but one, until the graph of the
// operation is done. For a cache that is written at every token this would mean to wait for the
// token before, or to copy. So an output that takes memory over gets a Data object of its own, a
// lease of that memory, and with it the number of times that MLX will hold the lease. A mark, which
// MLX is given to hold just before, is let go with it: while the mark lives, so do those holds, and
// any other holder is somebody who may look at the array.
#pragma once

#include <memory>

#include "mlx/array.h"
#include "mlx_kd/devices/cuda/call/native_api.h"

namespace mlx_kd::devices::cuda {

// Of one evaluation of a primitive; its outputs share it.
struct Mark {
  std::shared_ptr<const void> held;  // what is to live as long
  // To be held by MLX until the graph is done.
  static mlx::core::array held_by(const std::shared_ptr<const Mark>& mark);
};

// Whether nothing but operations that were queued before on the same stream uses the array: then it
// may be overwritten in their order. False where that cannot be known. The caller holds `array`
// where the evaluation finds it, in one place.
bool is_held_by_graphs_alone(const NativeApi& api, const mlx::core::array& array);

// `output` gets the memory of `input` under a lease. `holds`: how often MLX holds the output's
// memory, from after `mark` was given to it until it lets go of that.
void lease(const mlx::core::array& input, mlx::core::array& output,
           const std::shared_ptr<const Mark>& mark, int holds);

}  // namespace mlx_kd::devices::cuda
