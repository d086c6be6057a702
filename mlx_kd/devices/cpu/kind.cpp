#include "mlx_kd/base/error.h"
#include "mlx_kd/devices/cpu/cpu_device.h"
#include "mlx_kd/devices/cpu/examine.h"
#include "mlx_kd/devices/host/compiler.h"
#include "mlx_kd/devices/registry.h"

namespace mlx_kd::devices {
namespace {

// A device without a compiler can still load what the cache holds, so it counts as available.
DeviceReport probe() {
  std::string compiler;
  try {
    compiler = cpu::find_toolchain().version;
  } catch (const base::Error&) {
    compiler = "no C++ compiler (kd doctor says what to do)";
  }
  return {"cpu", true, cpu::describe() + "; " + compiler};
}

}  // namespace

DeviceKind kind_cpu();

DeviceKind kind_cpu() {
  return {"cpu", probe, cpu::open_cpu_device, cpu::examine, {"cpp"}};
}

}  // namespace mlx_kd::devices
