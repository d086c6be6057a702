// The device `cuda`: kernels in Metal and in CUDA C++ on the first NVIDIA GPU.
#pragma once

#include <memory>

#include "mlx_kd/devices/device.h"

namespace mlx_kd::devices::cuda {

// Fails (exit 1) where there is no GPU.
std::shared_ptr<const Device> open_cuda_device();

// arch "sm_90" and name as MLX says them; target {"sm": 90}.
spec::DeviceId make_cuda_id();

}  // namespace mlx_kd::devices::cuda
