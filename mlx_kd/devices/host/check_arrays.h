// Whether the arrays of a lazy call are what its kernel was compiled for.
#pragma once

#include <string>
#include <vector>

#include "mlx/array.h"
#include "mlx_kd/devices/device.h"

namespace mlx_kd::devices {

// Fails (exit 1) if the number of inputs or outputs, or the type of an input, is not the call's.
void check_arrays(const std::string& op_name, const std::vector<mlx::core::array>& inputs,
                  size_t outputs, const Call& call);

// MLX's types of the call's outputs.
std::vector<mlx::core::Dtype> output_types(const Call& call);

}  // namespace mlx_kd::devices
