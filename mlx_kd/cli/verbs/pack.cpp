// kd pack: several runs, also of machines that never met, into one pack or several.
#include <algorithm>
#include <cstdio>
#include <memory>

#include "mlx_kd/cli/terminal/console.h"
#include "mlx_kd/cli/terminal/progress.h"
#include "mlx_kd/cli/terminal/signals.h"
#include "mlx_kd/cli/terminal/table.h"
#include "mlx_kd/cli/verbs.h"
#include "mlx_kd/discover/revalidate/remeasure.h"
#include "mlx_kd/packs/merge/merge_runs.h"

namespace mlx_kd::cli {
namespace {

constexpr size_t kMostRows = 40;  // of a table; --json lists all

struct PackOptions {
  std::vector<std::string> runs;
  std::string out, split_by;
  packs::MergeOptions merge;
  uint64_t seed = 0;
  bool remeasure = false, json = false, quiet = false;
};

struct Pin {
  spec::PinKey key;
  base::Json target;
};

struct Outcome {
  packs::MergeResult merged;  // without its entries, which are written
  std::vector<Pin> pins;      // of the entries that were merged
  size_t entries = 0;         // of the written packs
  std::vector<std::filesystem::path> files;
  std::vector<discover::Revalidated> remeasured;
};

base::Json json_of(const packs::Disagreement::Side& side) {
  return {{"origin", side.origin}, {"speedup", side.speedup}, {"lo", side.lo}, {"hi", side.hi}};
}

base::Json dropped_json(const Outcome& outcome) {
  base::Json list = base::Json::array();
  for (const packs::Dropped& drop : outcome.merged.dropped)
    list.push_back({{"key", spec::to_json(outcome.pins[drop.winner].key)},
                    {"target", outcome.pins[drop.winner].target},
                    {"candidate_id", drop.candidate_id},
                    {"origin", drop.origin},
                    {"why", drop.why}});
  return list;
}

base::Json disagreements_json(const Outcome& outcome) {
  base::Json list = base::Json::array();
  for (const packs::Disagreement& one : outcome.merged.disagreements)
    list.push_back({{"key", spec::to_json(outcome.pins[one.winner].key)},
                    {"candidate_id", one.candidate_id},
                    {"low", json_of(one.low)},
                    {"high", json_of(one.high)}});
  return list;
}

base::Json remeasured_json(const std::vector<discover::Revalidated>& entries) {
  base::Json list = base::Json::array();
  for (const discover::Revalidated& entry : entries)
    list.push_back({{"outcome", name_of(entry.kind)},
                    {"key", spec::to_json(entry.before.key)},
                    {"candidate_id", entry.before.candidate_id},
                    {"now", spec::to_json(entry.now)},
                    {"why", entry.why}});
  return list;
}

void print_json(const Outcome& outcome, const std::string& out) {
  base::Json files = base::Json::array();
  for (const auto& file : outcome.files) files.push_back(file.string());
  const base::Json whole = {{"out", out},
                            {"files", files},
                            {"entries", outcome.entries},
                            {"dropped", dropped_json(outcome)},
                            {"disagreements", disagreements_json(outcome)},
                            {"remeasured", remeasured_json(outcome.remeasured)}};
  print(whole.dump(2, ' ', true) + "\n");
}

using Rows = std::vector<std::vector<std::string>>;

void print_rows(Rows rows) {
  if (rows.size() < 2) return;
  const size_t left = rows.size() - std::min(rows.size(), kMostRows + 1);
  rows.resize(rows.size() - left);
  print(table_text(rows));
  if (left > 0) print("... and " + std::to_string(left) + " more: --json lists all\n");
}

std::string speedup_text(const packs::Disagreement::Side& side) {
  return times(side.speedup) + " (" + fixed(side.lo, 2) + " to " + fixed(side.hi, 2) + ") in " +
         side.origin;
}

Rows dropped_rows(const Outcome& outcome) {
  Rows rows = {{"dropped", "dtype", "shape", "kernel", "from", "why"}};
  for (const packs::Dropped& drop : outcome.merged.dropped) {
    const spec::PinKey& key = outcome.pins[drop.winner].key;
    rows.push_back({key.op_name, key.dtype, key.shape_signature.text(), drop.candidate_id,
                    drop.origin, drop.why});
  }
  return rows;
}

Rows disagreement_rows(const Outcome& outcome) {
  Rows rows = {{"disagreed on", "dtype", "shape", "kernel", "speed-up", "and"}};
  for (const packs::Disagreement& one : outcome.merged.disagreements) {
    const spec::PinKey& key = outcome.pins[one.winner].key;
    rows.push_back({key.op_name, key.dtype, key.shape_signature.text(), one.candidate_id,
                    speedup_text(one.low), speedup_text(one.high)});
  }
  return rows;
}

Rows remeasured_rows(const std::vector<discover::Revalidated>& entries) {
  Rows rows = {{"measured here", "op", "dtype", "shape", "kernel", "speed-up", "why"}};
  for (const discover::Revalidated& entry : entries) {
    const spec::PinKey& key = entry.before.key;
    rows.push_back({name_of(entry.kind), key.op_name, key.dtype, key.shape_signature.text(),
                    entry.before.candidate_id, times(entry.now.speedup_vs_ref), entry.why});
  }
  return rows;
}

void print_table(const Outcome& outcome, const std::string& out) {
  print_rows(dropped_rows(outcome));
  print_rows(disagreement_rows(outcome));
  print_rows(remeasured_rows(outcome.remeasured));
  const std::string entries = counted(outcome.entries, "entry", "entries");
  const std::string files = outcome.files.size() == 1 && outcome.files[0] == out
                                ? ""
                                : counted(outcome.files.size(), "pack", "packs") + ", ";
  print(out + ": " + files + entries + ", " + std::to_string(outcome.merged.dropped.size()) +
        " dropped\n");
  if (!outcome.merged.disagreements.empty() && outcome.remeasured.empty())
    std::fprintf(
        stderr, "%s measured otherwise by another run: --remeasure decides here\n",
        counted(outcome.merged.disagreements.size(), "kernel was", "kernels were").c_str());
}

// Interrupted: nothing is written.
packs::Pack remeasured(const PackOptions& options, Outcome& outcome) {
  const packs::Pack contested = packs::contested(options.runs, outcome.merged);
  discover::Interrupt interrupt;
  const SignalWatch signals([&] { interrupt.raise(); });
  Progress progress(0, options.quiet);
  discover::Remeasured result =
      discover::remeasure(outcome.merged.pack, contested, options.seed, progress, interrupt);
  if (result.interrupted) throw Exit{signals.exit_code()};
  outcome.remeasured = std::move(result.entries);
  return std::move(result.pack);
}

void pack(const PackOptions& options) {
  const packs::SplitBy split =
      options.split_by.empty() ? packs::SplitBy() : packs::SplitBy::parse(options.split_by);
  packs::check_merge_output(options.out, split);
  Outcome outcome;
  outcome.merged = packs::merge_runs(options.runs, options.merge);
  for (const packs::Entry& entry : outcome.merged.pack.entries)
    outcome.pins.push_back({entry.key, entry.target});
  packs::Pack written = options.remeasure && !outcome.merged.disagreements.empty()
                            ? remeasured(options, outcome)
                            : std::move(outcome.merged.pack);
  outcome.merged.pack = {};
  outcome.entries = written.entries.size();
  outcome.files = packs::write_merged(std::move(written), options.out, split);
  options.json ? print_json(outcome, options.out) : print_table(outcome, options.out);
}

}  // namespace

void add_pack(CLI::App& app) {
  auto options = std::make_shared<PackOptions>();
  CLI::App* verb = app.add_subcommand("pack", "Merge the winners of several runs into one pack");
  verb->add_option("--runs", options->runs, "Run directories, best_kernels.json files or packs")
      ->required();
  verb->add_option("--out", options->out, "Pack to write; with --split-by a folder of packs")
      ->required();
  verb->add_option("--prefer-protocol", options->merge.prefer_protocol,
                   "Which times count where entries were measured by different protocols");
  verb->add_option("--split-by", options->split_by,
                   "device, op or device,op: a pack for each, where one would be too large");
  verb->add_flag("--remeasure", options->remeasure,
                 "Measure on this machine the kernels whose speed-ups differ between runs beyond "
                 "their intervals");
  verb->add_option("--seed", options->seed, "Of the test data of --remeasure")
      ->capture_default_str();
  verb->add_flag("--json", options->json, "Print what was dropped and what differs as JSON");
  verb->add_flag("--quiet", options->quiet, "No progress");
  verb->callback([options] { pack(*options); });
}

}  // namespace mlx_kd::cli
