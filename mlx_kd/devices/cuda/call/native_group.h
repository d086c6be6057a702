// Consecutive kernels of this project as one operation in MLX's CUDA graphs: the kernels are the
// same, and the host's cost per operation is paid once.
#pragma once

#include <memory>
#include <vector>

#include "mlx/array.h"
#include "mlx_kd/devices/device.h"

namespace mlx_kd::devices::cuda {

// nullptr where an array between the inputs and the outputs is neither the output of one of these
// kernels nor a view of one (a reshape, or a slice from the first element in steps of 1), is
// traced, or is on another stream; where an operation in between updates what another one made; and
// where there are more arrays than a primitive takes. Arrays that are not given and are there
// already become constants of the group.
std::shared_ptr<const OperationGroup> native_group(const std::vector<mlx::core::array>& inputs,
                                                   const std::vector<mlx::core::array>& outputs);

}  // namespace mlx_kd::devices::cuda
