// In the program kd_metal_stand_in the device metal is this one.
#include "tests/support/metal_stand_in.h"

#include "mlx_kd/devices/registry.h"

namespace mlx_kd::devices {
namespace {

DeviceReport probe() {
  return {"metal", true, "a stand-in for metal_kernel, for tests"};
}

std::shared_ptr<const Device> open() {
  return metal::make_metal_device(tests::stand_in_host());
}

std::vector<Finding> examine() {
  return {};
}

}  // namespace

DeviceKind kind_metal();

DeviceKind kind_metal() {
  return {"metal", probe, open, examine, {"metal"}, nullptr, /*copies_updates=*/true};
}

}  // namespace mlx_kd::devices
