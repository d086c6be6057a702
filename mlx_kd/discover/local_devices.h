// The devices of this machine that can measure the entries of a pack.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "mlx_kd/devices/device.h"
#include "mlx_kd/packs/entry.h"

namespace mlx_kd::discover {

class LocalDevices {
 public:
  // The one whose kernels are in the language, opened at the first call; nullptr if there is none
  // that measures them against MLX. (A machine may have a GPU and an MLX that was built without
  // it.)
  std::shared_ptr<const devices::Device> find(const std::string& language);

 private:
  std::map<std::string, std::shared_ptr<const devices::Device>> known_;
};

// Whether the entry is a pin of this very device and target.
bool is_of(const packs::Entry& entry, const spec::DeviceId& device);

}  // namespace mlx_kd::discover
