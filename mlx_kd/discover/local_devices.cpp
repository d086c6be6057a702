#include "mlx_kd/discover/local_devices.h"

#include <algorithm>

namespace mlx_kd::discover {

std::shared_ptr<const devices::Device> LocalDevices::find(const std::string& language) {
  const auto [at, is_new] = known_.try_emplace(language);
  if (!is_new) return at->second;
  for (const auto& report : devices::list_devices()) {
    if (!report.available || !devices::serves_programs(report.kind)) continue;
    const auto device = devices::open_device(report.kind);
    const auto taken = device->languages();
    if (std::find(taken.begin(), taken.end(), language) != taken.end()) return at->second = device;
  }
  return nullptr;
}

bool is_of(const packs::Entry& entry, const spec::DeviceId& device) {
  return entry.key.device_arch == device.arch && entry.key.device_name == device.name &&
         base::canonical_json(entry.target) == base::canonical_json(device.target);
}

}  // namespace mlx_kd::discover
