// Apple GPUs, by MLX's metal_kernel. Nobody has tried it on Apple hardware yet: it is compiled, and
// its kernels are proved on the executor (devices/simt).
#pragma once

#include <memory>

#include "mlx_kd/devices/device.h"

namespace mlx_kd::devices::metal {

// Fails (exit 1) where MLX has no Metal.
std::shared_ptr<const Device> open_metal_device();

// The body and numbers of a candidate for one call, as metal_kernel takes them.
struct MetalCallText {
  std::string name, header, body;
};
// Misuse, with the place in the Metal text, for a kernel that has no body form.
MetalCallText call_text(const spec::Candidate& candidate, const Call& call);

}  // namespace mlx_kd::devices::metal
