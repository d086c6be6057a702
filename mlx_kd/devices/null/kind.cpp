#include "mlx_kd/devices/null/null_device.h"
#include "mlx_kd/devices/registry.h"

namespace mlx_kd::devices {
namespace {

DeviceReport probe() {
  return {"null", true,
          "times from a formula, for tests of the engine; nothing is compiled or run"};
}

std::vector<Finding> examine() {
  return {};
}

}  // namespace

DeviceKind kind_null();

DeviceKind kind_null() {
  return {"null", probe, null::open_null_device, examine, {"cpp"}};
}

}  // namespace mlx_kd::devices
