#include "mlx_kd/packs/merge/install.h"

#include <map>
#include <set>

#include "mlx_kd/base/error.h"
#include "mlx_kd/base/files.h"
#include "mlx_kd/packs/merge/winners.h"

namespace mlx_kd::packs {
namespace {

constexpr const char* kOfRun = "the run";
constexpr const char* kOfFile = "the file";

struct KeyBefore {
  bool operator()(const Entry& a, const Entry& b) const { return key_before(a, b); }
};
using Pins = std::set<Entry, KeyBefore>;

struct Plan {
  Pack pack;
  InstallResult result;
};

// `why`: of what was dropped for the winner, by origin.
Change change_of(const Entry& winner, const Pins& before, const Pins& of_run,
                 const std::map<std::string, std::string>& why) {
  const Entry& entry = *of_run.find(winner);
  const auto old = before.find(winner);
  if (old == before.end()) return {Change::Kind::added, entry, ""};
  const bool kept = to_json(*old) == to_json(winner);
  const auto found = why.find(kept ? kOfRun : kOfFile);
  const std::string text = found == why.end() ? "" : found->second;
  return {kept ? Change::Kind::kept : Change::Kind::replaced, kept ? entry : winner,
          kept || text.empty() ? text : "the file's was " + text};
}

// What a user's kernel is, whatever the sizes of its run and the place of its reference; null for
// an operator of the table.
base::Json kernel_of(const Entry& entry) {
  base::Json kernel = entry.other.value("kernel", base::Json());
  if (!kernel.is_object()) return {};
  kernel.erase("sizes");
  if (const auto reference = kernel.find("reference"); reference != kernel.end())
    for (const char* name : {"path", "has_graph"}) reference->erase(name);
  return kernel;
}

// What the file will hold. Entries of pins that the run says nothing about stay as they are, of
// whatever protocol.
Plan plan_of(const Pack& run, const std::optional<Pack>& file, const MergeOptions& options) {
  const Pins of_run(run.entries.begin(), run.entries.end());
  Pack touched, foreign;
  Pins changed;  // of the file, made of another text of a user's kernel, or of another reference
  for (const Entry& entry : file ? file->entries : std::vector<Entry>{}) {
    const auto own = of_run.find(entry);
    if (own == of_run.end())
      foreign.entries.push_back(entry);
    else if (kernel_of(*own) != kernel_of(entry))
      changed.insert(entry);
    else
      touched.entries.push_back(entry);
  }
  MergeResult merged = merge({{kOfFile, touched}, {kOfRun, run}}, options);
  const Pins before(touched.entries.begin(), touched.entries.end());
  Plan plan;
  std::vector<std::map<std::string, std::string>> why(merged.pack.entries.size());
  for (const Dropped& drop : merged.dropped) why[drop.winner][drop.origin] = drop.why;
  for (size_t i = 0; i < why.size(); ++i) {
    const Entry& entry = merged.pack.entries[i];
    plan.result.changes.push_back(
        changed.contains(entry)
            ? Change{Change::Kind::replaced, entry, "the file's was of another kernel of that name"}
            : change_of(entry, before, of_run, why[i]));
  }
  plan.result.foreign = foreign.entries.size();
  plan.pack = file ? *file : run;
  if (file) plan.pack.runtime.update(mixed_runtime(file->runtime, run.runtime));
  plan.pack.entries = std::move(merged.pack.entries);
  plan.pack.entries.insert(plan.pack.entries.end(), foreign.entries.begin(), foreign.entries.end());
  return plan;
}

}  // namespace

std::string name_of(Change::Kind kind) {
  switch (kind) {
    case Change::Kind::added:
      return "added";
    case Change::Kind::replaced:
      return "replaced";
    case Change::Kind::kept:
      return "kept";
  }
  return "";
}

InstallResult install(const fs::path& run, const fs::path& file, const MergeOptions& options) {
  const Pack winners = read_some_winners(run);
  const fs::path place = behind_links(file);
  check_output(place);
  plan_of(winners, read_if_there(place), options);  // misuse shows before the lock file is made
  const base::FileLock lock = base::FileLock::take(place.string() + ".lock", "packs");
  const Plan plan = plan_of(winners, read_if_there(place), options);
  write_pack(place, plan.pack);
  return plan.result;
}

}  // namespace mlx_kd::packs
