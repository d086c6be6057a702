#include "mlx_kd/packs/install.h"

#include <algorithm>
#include <set>

#include "mlx_kd/base/error.h"
#include "mlx_kd/base/files.h"

namespace mlx_kd::packs {
namespace {

constexpr const char* kOfRun = "the run";
constexpr const char* kOfFile = "the file";

struct KeyBefore {
  bool operator()(const Entry& a, const Entry& b) const { return key_before(a, b); }
};
using Pins = std::set<Entry, KeyBefore>;

Pack read_some_winners(const fs::path& path) {
  Pack result = read_winners(path);
  if (result.entries.empty())
    base::misuse("packs", path.string() +
                              " holds no winners: no kernel was surely faster than "
                              "MLX; give the run a larger budget");
  return result;
}

struct Plan {
  Pack pack;
  InstallResult result;
};

Change change_of(const Entry& winner, const Pins& before, const Pins& of_run,
                 const std::vector<Dropped>& dropped) {
  const Entry& entry = *of_run.find(winner);
  const auto old = before.find(winner);
  if (old == before.end()) return {Change::Kind::added, entry, ""};
  const bool kept = to_json(*old) == to_json(winner);
  const std::string loser = kept ? kOfRun : kOfFile;
  const auto found = std::find_if(dropped.begin(), dropped.end(), [&](const Dropped& d) {
    return d.origin == loser && same_pin(d.entry, winner);
  });
  const std::string why = found == dropped.end() ? "" : found->why;
  return {kept ? Change::Kind::kept : Change::Kind::replaced, kept ? entry : winner,
          kept || why.empty() ? why : "the file's was " + why};
}

// What the file will hold. Entries of pins that the run says nothing about stay as they are, of
// whatever protocol.
Plan plan_of(const Pack& run, const std::optional<Pack>& file, const MergeOptions& options) {
  const Pins of_run(run.entries.begin(), run.entries.end());
  Pack touched, foreign;
  if (file)
    for (const Entry& entry : file->entries)
      (of_run.count(entry) ? touched : foreign).entries.push_back(entry);
  MergeResult merged = merge({{kOfFile, touched}, {kOfRun, run}}, options);
  const Pins before(touched.entries.begin(), touched.entries.end());
  Plan plan;
  for (const Entry& winner : merged.pack.entries)
    plan.result.changes.push_back(change_of(winner, before, of_run, merged.dropped));
  plan.result.foreign = foreign.entries.size();
  plan.pack = file ? *file : run;
  if (file) plan.pack.runtime.update(mixed_runtime(file->runtime, run.runtime));
  plan.pack.entries = std::move(merged.pack.entries);
  plan.pack.entries.insert(plan.pack.entries.end(), foreign.entries.begin(), foreign.entries.end());
  return plan;
}

std::optional<Pack> read_if_there(const fs::path& path) {
  std::error_code unreadable;  // then opening the file says why
  if (!fs::exists(path, unreadable) && !unreadable) return std::nullopt;
  return read_pack(path);
}

// A link is written through, not replaced.
fs::path behind_links(const fs::path& path) {
  std::error_code broken;
  const fs::path result = fs::weakly_canonical(path, broken);
  return broken ? path : result;
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

MergeResult pack_runs(const std::vector<std::string>& runs, const fs::path& out,
                      const MergeOptions& options) {
  std::vector<Origin> origins;
  for (const std::string& run : runs) origins.push_back({run, read_some_winners(run)});
  const fs::path place = behind_links(out);
  check_output(place);
  read_if_there(place);  // what is not a pack is not written over
  MergeResult result = merge(origins, options);
  const base::FileLock lock = base::FileLock::take(place.string() + ".lock", "packs");
  write_pack(place, result.pack);
  return result;
}

}  // namespace mlx_kd::packs
