// kd revalidate: proves and times a pack again, for the current MLX and device.
#include "mlx_kd/discover/revalidate/revalidate.h"

#include <cstdio>
#include <memory>

#include "mlx_kd/cli/terminal/console.h"
#include "mlx_kd/cli/terminal/progress.h"
#include "mlx_kd/cli/terminal/signals.h"
#include "mlx_kd/cli/terminal/table.h"
#include "mlx_kd/cli/verbs.h"

namespace mlx_kd::cli {
namespace {

struct RevalidateOptions {
  std::string pack, output;
  uint64_t seed = 0;
  bool json = false, quiet = false;
};

std::string table(const discover::Revalidation& result) {
  std::vector<std::vector<std::string>> rows = {
      {"", "op", "dtype", "shape", "kernel", "MLX then", "speed-up", "now", "why"}};
  for (const auto& entry : result.entries) {
    const auto& key = entry.before.key;
    rows.push_back({name_of(entry.kind), key.op_name, key.dtype, key.shape_signature.text(),
                    entry.before.candidate_id, key.mlx_version,
                    times(entry.before.metrics.speedup_vs_ref), times(entry.now.speedup_vs_ref),
                    entry.why});
  }
  return table_text(rows);
}

base::Json json_of(const discover::Revalidation& result, const std::string& output,
                   const std::string& old) {
  base::Json entries = base::Json::array();
  for (const auto& entry : result.entries)
    entries.push_back({{"outcome", name_of(entry.kind)},
                       {"key", spec::to_json(entry.before.key)},
                       {"candidate_id", entry.before.candidate_id},
                       {"before", spec::to_json(entry.before.metrics)},
                       {"now", spec::to_json(entry.now)},
                       {"why", entry.why}});
  return {{"output", output},
          {"old", old.empty() ? base::Json() : base::Json(old)},
          {"entries_written", result.pack.entries.size()},
          {"entries", entries}};
}

void revalidate(const RevalidateOptions& options) {
  const std::string output = options.output.empty() ? options.pack : options.output;
  const packs::Pack pack = packs::read_pack(options.pack);
  packs::check_output(output);
  discover::Interrupt interrupt;
  const SignalWatch signals([&] { interrupt.raise(); });
  discover::Revalidation result;
  {
    Progress progress(0, options.quiet);
    result = discover::revalidate(pack, options.seed, progress, interrupt);
  }
  if (result.interrupted) {
    std::fprintf(stderr, "Stopped; %s is as it was\n", output.c_str());
    throw Exit{signals.exit_code()};
  }
  const auto old = discover::write_revalidated(result, options.pack, output);
  print(options.json ? json_of(result, output, old ? old->string() : "").dump(2, ' ', true) + "\n"
                     : table(result));
  if (options.json) return;
  std::fprintf(stderr, "%s: %s%s\n", output.c_str(),
               counted(result.pack.entries.size(), "entry", "entries").c_str(),
               old ? (", the old file is " + old->string()).c_str() : "");
}

}  // namespace

void add_revalidate(CLI::App& app) {
  auto options = std::make_shared<RevalidateOptions>();
  CLI::App* verb = app.add_subcommand(
      "revalidate", "Prove and time the entries of a pack again, for this MLX and device");
  verb->add_option("pack", options->pack, "The pack")->required();
  verb->add_option("--output", options->output,
                   "Pack to write; left out: the same file, with the old one kept next to it");
  verb->add_option("--seed", options->seed, "Of the test data")->capture_default_str();
  verb->add_flag("--json", options->json, "Print what became of each entry as JSON");
  verb->add_flag("--quiet", options->quiet, "No progress");
  verb->callback([options] { revalidate(*options); });
}

}  // namespace mlx_kd::cli
