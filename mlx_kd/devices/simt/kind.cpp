#include "mlx_kd/devices/host/cpu_info.h"
#include "mlx_kd/devices/registry.h"
#include "mlx_kd/devices/simt/simt_body.h"
#include "mlx_kd/devices/simt/simt_device.h"

namespace mlx_kd::devices {
namespace {

DeviceReport probe() {
  const int cores = cpu::usable_cores();
  return {"simt", true,
          "Metal kernels on this CPU (" + std::to_string(cores) +
              (cores == 1 ? " core" : " cores") +
              "), for proof and checks: its times say nothing about a GPU"};
}

// Its compiler and cache are the CPU's, which examines them.
std::vector<Finding> examine() {
  return {};
}

}  // namespace

DeviceKind kind_simt();

DeviceKind kind_simt() {
  return {"simt", probe, simt::open_simt_device, examine, {"metal"}, simt::run_body};
}

}  // namespace mlx_kd::devices
