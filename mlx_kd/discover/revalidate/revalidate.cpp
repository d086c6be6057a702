#include "mlx_kd/discover/revalidate/revalidate.h"

#include <algorithm>
#include <map>

#include "mlx_kd/base/error.h"
#include "mlx_kd/base/files.h"
#include "mlx_kd/devices/host/mlx_types.h"
#include "mlx_kd/discover/local_devices.h"
#include "mlx_kd/discover/make_entry.h"
#include "mlx_kd/discover/revalidate/executor_proofs.h"
#include "mlx_kd/discover/revalidate/pinned_group.h"
#include "mlx_kd/packs/merge/merge.h"

namespace mlx_kd::discover {
namespace {

namespace fs = std::filesystem;
using Kind = Revalidated::Kind;

// Messages of lower rooms, without the room.
std::string reason_of(const base::Error& error) {
  const std::string text = error.what();
  const size_t room_end = text.find("] ");
  return room_end == text.npos ? text : text.substr(room_end + 2);
}

// Entries of one op, type and device are measured together, approximate ones apart.
using Groups = std::map<std::tuple<std::string, std::string, std::string, bool>, PinnedGroup>;

// Kernels of users may have one name and be different operators.
std::string name_in_groups(const spec::Op& op) {
  return op.description.is_null() ? op.name : op.name + op.description.dump();
}

void sort_in(const packs::Entry& entry, size_t index, LocalDevices& devices, Groups& groups) {
  const auto device = devices.find(entry.language);
  if (!device)
    base::misuse("discover",
                 "no device here runs kernels in '" + entry.language.substr(0, 20) + "'");
  const spec::Op& op = op_of(entry);
  const auto key =
      std::make_tuple(device->id().kind, name_in_groups(op), entry.key.dtype, entry.approximate);
  const auto [at, is_new] = groups.try_emplace(key, op, device, entry.key.dtype);
  try {
    at->second.add(entry, index);
  } catch (const base::Error&) {
    if (is_new) groups.erase(at);
    throw;
  }
}

Groups sort_in(const packs::Pack& pack, ExecutorProofs& proofs, Revalidation& result) {
  LocalDevices devices;
  Groups groups;
  for (size_t i = 0; i < pack.entries.size(); ++i) {
    const packs::Entry& entry = pack.entries[i];
    result.entries.push_back({Kind::kept, entry, {}, ""});
    try {
      if (entry.language == "metal" && !devices.find("metal"))
        proofs.add(entry, i);
      else
        sort_in(entry, i, devices, groups);
    } catch (const base::Error& error) {
      result.entries[i].why = reason_of(error);
    }
  }
  return groups;
}

// False, with the reason in all of its entries, where this machine cannot hold the group's sizes.
bool measure(PinnedGroup& group, uint64_t seed, Listener& listener, Interrupt& interrupt,
             Revalidation& result) try {
  group.measure(seed, listener, interrupt);
  return true;
} catch (const base::Error& error) {
  if (error.exit_code() != 2) throw;
  for (size_t index : group.members()) result.entries[index].why = reason_of(error);
  return false;
}

// A kernel that is wrong on the executor is wrong; one that is right there keeps its times.
void prove_on_executor(const ExecutorProofs& proofs, uint64_t seed, Listener& listener,
                       Interrupt& interrupt, std::vector<bool>& stays, Revalidation& result) {
  for (const auto& [index, verdict] : proofs.run(seed, listener, interrupt)) {
    Revalidated& entry = result.entries[index];
    entry.now = verdict.metrics;
    stays[index] = verdict.status != spec::Status::wrong;
    if (!stays[index]) entry.kind = Kind::dropped;
    entry.why = verdict.status == spec::Status::benchmarked
                    ? "proved on simt and checked for races; no device here times Metal kernels"
                    : verdict.reason;
  }
  result.interrupted = interrupt.raised();
}

// What the new pack holds: what was measured, and of the old one what that does not take over.
packs::Pack pack_of(const packs::Pack& before, const packs::Pack& measured,
                    const std::vector<bool>& stays) {
  packs::Pack result = before;
  result.entries = measured.entries;
  const auto is_measured = [&](const packs::Entry& entry) {
    return std::any_of(measured.entries.begin(), measured.entries.end(),
                       [&](const packs::Entry& found) { return packs::same_pin(found, entry); });
  };
  for (size_t i = 0; i < before.entries.size(); ++i)
    if (stays[i] && !is_measured(before.entries[i])) result.entries.push_back(before.entries[i]);
  if (measured.runtime.empty()) return result;
  result.runtime = result.entries.size() > measured.entries.size()
                       ? packs::mixed_runtime(before.runtime, measured.runtime)
                       : measured.runtime;
  return result;
}

}  // namespace

std::string name_of(Kind kind) {
  switch (kind) {
    case Kind::proved:
      return "proved";
    case Kind::replaced:
      return "replaced";
    case Kind::dropped:
      return "dropped";
    case Kind::kept:
      return "kept";
  }
  return "";
}

Revalidation revalidate(const packs::Pack& pack, uint64_t seed, Listener& listener,
                        Interrupt& interrupt) {
  if (pack.entries.empty())
    base::misuse("discover", "the pack has no entries: install a run into it first");
  for (const auto& entry : pack.entries)
    if (packs::is_null(entry))
      base::misuse("discover", "the times of " + packs::title(entry) +
                                   " were invented by the null device: measure on a real one");
  Revalidation result;
  ExecutorProofs proofs;
  Groups groups = sort_in(pack, proofs, result);
  packs::Pack measured;
  std::vector<bool> stays(pack.entries.size(), true);
  for (auto& [key, group] : groups) {
    const bool fits = measure(group, seed, listener, interrupt, result);
    if ((result.interrupted = interrupt.raised())) return result;
    if (!fits) continue;
    for (size_t index : group.members()) {
      result.entries[index] = group.outcome(index);
      // A pin of this very device and target is taken over; others stay in addition to what was
      // found for them.
      stays[index] = !is_of(pack.entries[index], group.device().id());
    }
    const auto& found = group.entries();
    measured.entries.insert(measured.entries.end(), found.begin(), found.end());
    measured.runtime = measured.runtime.empty()
                           ? group.runtime()
                           : packs::mixed_runtime(measured.runtime, group.runtime());
  }
  prove_on_executor(proofs, seed, listener, interrupt, stays, result);
  if (!result.interrupted) result.pack = pack_of(pack, measured, stays);
  return result;
}

std::optional<fs::path> write_revalidated(const Revalidation& result, const fs::path& input,
                                          const fs::path& output) {
  packs::check_output(output);
  const auto lock = base::FileLock::take(output.string() + ".lock", "discover");
  std::error_code ignored;
  std::optional<fs::path> old;
  if (fs::equivalent(input, output, ignored)) {
    old = output.string() + ".old";
    for (int i = 2; fs::exists(*old, ignored); ++i)
      old = output.string() + ".old" + std::to_string(i);
    base::write_file_atomically(*old, base::read_file(input, "discover"), "discover");
  }
  packs::write_pack(output, result.pack);
  return old;
}

}  // namespace mlx_kd::discover
