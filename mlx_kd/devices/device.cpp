#include "mlx_kd/devices/device.h"

#include "mlx_kd/base/error.h"
#include "mlx_kd/devices/kinds.h"

namespace mlx_kd::devices {

std::shared_ptr<const Device> open_device(const std::string& kind) {
  std::vector<std::string> known;
  for (const DeviceKind& entry : all_kinds()) {
    known.push_back(entry.kind);
    if (entry.kind != kind) continue;
    const DeviceReport report = entry.probe();
    if (report.available) return entry.open();
    base::misuse("devices", "device '" + kind + "' cannot be used here: " + report.detail);
  }
  base::misuse("devices", "device '" + kind + "' is not known: choose " + base::list_of(known));
}

std::vector<DeviceReport> list_devices() {
  std::vector<DeviceReport> reports;
  for (const DeviceKind& entry : all_kinds()) reports.push_back(entry.probe());
  return reports;
}

}  // namespace mlx_kd::devices
