#include "mlx_kd/discover/cluster/turn.h"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>

#include "mlx_kd/base/sha256.h"
#include "mlx_kd/devices/host/object_cache.h"

namespace mlx_kd::discover {
namespace {

constexpr useconds_t kAskEveryUs = 10000;

}  // namespace

Turn::Turn(const RunSetup& setup, const Ranks& ranks) {
  if (setup.evaluator->protocol_name() == "null") return;
  const std::string& machine = ranks.processes().at(static_cast<size_t>(ranks.rank())).machine;
  const auto here = std::count_if(ranks.processes().begin(), ranks.processes().end(),
                                  [&](const ProcessName& one) { return one.machine == machine; });
  if (here < 2) return;
  const char* const visible = std::getenv("CUDA_VISIBLE_DEVICES");
  const std::string device = setup.device->id().kind + "," + setup.device->id().name + "," +
                             (setup.device->accelerator() && visible ? visible : "");
  // The cache may be on a disk that machines share.
  const std::string digest = base::sha256_hex(machine + "," + device).substr(0, 16);
  path_ = devices::cpu::ObjectCache::from_environment().folder() / ("turn-" + digest + ".lock");
}

std::optional<base::FileLock> Turn::take(const Interrupt& interrupt) const {
  if (path_.empty()) return std::nullopt;
  while (!interrupt.raised()) {
    if (auto lock = base::FileLock::try_take(path_, "discover")) return lock;
    usleep(kAskEveryUs);
  }
  return std::nullopt;
}

}  // namespace mlx_kd::discover
