// The device metal without a Mac: mx::fast::metal_kernel in its place runs on the executor, on the
// default CPU stream. For tests alone: no program of the project makes such a device, and none has
// a GPU of its arch, so that no program takes a pin that was found on it.
#pragma once

#include "mlx_kd/devices/metal/metal_device.h"
#include "mlx_kd/devices/metal_text/metal_kernel.h"

namespace mlx_kd::tests {

inline mlx::core::fast::CustomKernelFunction stand_in_metal_kernel(
    const std::string& name, const std::vector<std::string>& inputs,
    const std::vector<std::string>& outputs, const std::string& source, const std::string& header,
    bool ensure_row_contiguous, bool atomic_outputs, const mlx::core::CompileOptions& options) {
  const devices::MetalKernel kernel(
      {name, inputs, outputs, source, header, ensure_row_contiguous, atomic_outputs, options});
  return [kernel](const auto& arrays, const auto& shapes, const auto& types, auto grid, auto group,
                  const auto& templates, auto init_value, bool verbose, auto stream) {
    return kernel({arrays, shapes, types, grid, group, templates, init_value, verbose, stream});
  };
}

inline constexpr const char* kStandInArch = "stand_in";

inline devices::metal::MetalHost stand_in_host() {
  return {stand_in_metal_kernel, [] { return mlx::core::default_stream(mlx::core::Device::cpu); },
          kStandInArch, "a stand-in for metal_kernel"};
}

}  // namespace mlx_kd::tests
