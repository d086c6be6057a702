#include "mlx_kd/runtime/pins/pin_devices.h"

#include <mutex>

#include "mlx_kd/base/error.h"
#include "mlx_kd/base/log_once.h"
#include "mlx_kd/devices/host/mlx_types.h"
#include "mlx_kd/devices/registry.h"

namespace mlx_kd::runtime {
namespace {

namespace mx = mlx::core;

std::vector<Engine> open_all() {
  std::vector<Engine> found;
  for (const devices::DeviceKind& kind : devices::all_kinds()) {
    if (!devices::serves_programs(kind.kind) || !kind.probe().available) continue;
    try {
      found.push_back({kind.open(), devices::mlx_place(kind.kind)});
    } catch (const base::Error& error) {
      base::log_once("runtime", "device '" + kind.kind + "' has no pins: " + error.what());
    }
  }
  return found;
}

// Never destroyed: arrays may run a kernel after every static object is gone.
struct Opened {
  std::mutex mutex;
  std::vector<Engine> engines = open_all();
};

Opened& opened() {
  static Opened& all = *new Opened;
  return all;
}

}  // namespace

std::vector<Engine> engines() {
  std::lock_guard lock(opened().mutex);
  return opened().engines;
}

AddedEngine::AddedEngine(const Engine& engine) : device_(engine.device) {
  std::lock_guard lock(opened().mutex);
  opened().engines.push_back(engine);
}

AddedEngine::~AddedEngine() {
  std::lock_guard lock(opened().mutex);
  std::erase_if(opened().engines, [&](const Engine& one) { return one.device == device_; });
}

}  // namespace mlx_kd::runtime
