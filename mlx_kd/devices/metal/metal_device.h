// Apple GPUs, by MLX's metal_kernel. It has not been tried on Apple hardware yet: its kernels are
// proved on the executor (devices/simt), and tests run all of its code with a stand-in for
// metal_kernel.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "mlx/fast.h"
#include "mlx_kd/devices/device.h"

namespace mlx_kd::devices::metal {

// What the device takes from MLX and from the machine.
struct MetalHost {
  std::function<decltype(mlx::core::fast::metal_kernel)> metal_kernel;
  std::function<mlx::core::Stream()> stream;  // that calls run on
  std::string arch, name;                     // of the GPU, as pins name it
};

// The device on this machine's Apple GPU. Fails (exit 1) where MLX has no Metal.
std::shared_ptr<const Device> open_metal_device();

// The device on another host: tests bring a metal_kernel that runs anywhere. Give it an `arch` that
// no GPU has, so that no program takes a pin found there for one of its own GPU.
std::shared_ptr<const Device> make_metal_device(MetalHost host);

}  // namespace mlx_kd::devices::metal
