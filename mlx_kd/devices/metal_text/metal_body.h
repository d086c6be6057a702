// A call of metal_kernel on its way to the device that runs it.
#pragma once

#include <array>

#include "mlx_kd/devices/metal_text/metal_kernel.h"
#include "mlx_kd/devices/metal_text/metal_source.h"
#include "mlx_kd/msl/bodies/body_form.h"

namespace mlx_kd::devices {

struct MetalBody {
  MetalText text;                        // the whole source
  std::string kernel;                    // its host name
  std::vector<msl::BodyBuffer> buffers;  // in order of index
};

struct MetalBodyCall {
  MetalBody body;
  const MetalKernelText* kernel = nullptr;
  const MetalKernelCall* call = nullptr;
  std::array<int64_t, 3> grid, group;  // group: at most the grid
  mlx::core::Stream stream;
};

// What a device does with one.
using RunMetalBody = std::vector<mlx::core::array> (*)(const MetalBodyCall&);

// Misuse for names and types that Metal does not take.
MetalBody metal_body(const MetalKernelText& kernel, const MetalKernelCall& call);

// MLX's name of an element type: "float32".
std::string dtype_name(mlx::core::Dtype dtype);

}  // namespace mlx_kd::devices
