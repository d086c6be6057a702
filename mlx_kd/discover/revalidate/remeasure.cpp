#include "mlx_kd/discover/revalidate/remeasure.h"

#include <algorithm>
#include <map>
#include <set>

#include "mlx/version.h"
#include "mlx_kd/discover/local_devices.h"
#include "mlx_kd/packs/merge/merge.h"

namespace mlx_kd::discover {
namespace {

using Kind = Revalidated::Kind;

// Why the kernel cannot be measured here; empty if it can.
std::string obstacle(const packs::Entry& entry, LocalDevices& devices) {
  const auto device = devices.find(entry.language);
  if (!device || !is_of(entry, device->id()))
    return "pinned for " + entry.key.device_name + " (" + entry.key.device_arch +
           "), which is not this machine's";
  if (entry.key.mlx_version != mlx::core::version())
    return "pinned for MLX " + entry.key.mlx_version + "; here is " + mlx::core::version();
  return "";
}

}  // namespace

Remeasured remeasure(const packs::Pack& merged, const packs::Pack& contested, uint64_t seed,
                     Listener& listener, Interrupt& interrupt) {
  Remeasured result;
  result.pack = merged;
  LocalDevices devices;
  packs::Pack here;
  here.runtime = contested.runtime;
  std::vector<size_t> places;
  for (const packs::Entry& entry : contested.entries) {
    result.entries.push_back({Kind::kept, entry, {}, obstacle(entry, devices)});
    if (!result.entries.back().why.empty()) continue;
    places.push_back(result.entries.size() - 1);
    here.entries.push_back(entry);
  }
  if (here.entries.empty()) return result;
  Revalidation measured = revalidate(here, seed, listener, interrupt);
  if ((result.interrupted = measured.interrupted)) return result;
  std::set<packs::PinOrder> decided;
  for (size_t i = 0; i < places.size(); ++i) {
    if (measured.entries[i].kind != Kind::kept) decided.insert(packs::order_of(here.entries[i]));
    result.entries[places[i]] = std::move(measured.entries[i]);
  }
  std::erase_if(result.pack.entries, [&](const packs::Entry& entry) {
    return decided.count(packs::order_of(entry)) > 0;
  });
  for (packs::Entry& entry : measured.pack.entries)
    if (decided.count(packs::order_of(entry))) result.pack.entries.push_back(std::move(entry));
  result.pack.runtime = packs::mixed_runtime(result.pack.runtime, measured.pack.runtime);
  return result;
}

}  // namespace mlx_kd::discover
