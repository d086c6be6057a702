#include "mlx/backend/metal/metal.h"
#include "mlx_kd/devices/metal/metal_device.h"
#include "mlx_kd/devices/registry.h"

namespace mlx_kd::devices {
namespace {

DeviceReport probe() {
  if (!mlx::core::metal::is_available())
    return {"metal", false,
            "no Apple GPU: elsewhere its kernels are proved with --prove-on simt --times null"};
  return {"metal", true, "by MLX's metal_kernel; untried on Apple hardware so far"};
}

std::vector<Finding> examine() {
  return {};
}

}  // namespace

DeviceKind kind_metal();

DeviceKind kind_metal() {
  return {"metal",   probe,   metal::open_metal_device, examine,
          {"metal"}, nullptr, /*copies_updates=*/true};
}

}  // namespace mlx_kd::devices
