// kd pack: several runs, also of machines that never met, into one pack.
#include <cstdio>
#include <memory>

#include "mlx_kd/cli/table.h"
#include "mlx_kd/cli/verbs.h"
#include "mlx_kd/packs/install.h"

namespace mlx_kd::cli {
namespace {

struct PackOptions {
  std::vector<std::string> runs;
  std::string out;
  packs::MergeOptions merge;
  bool json = false;
};

void print_json(const packs::MergeResult& result, const std::string& out) {
  base::Json dropped = base::Json::array();
  for (const packs::Dropped& drop : result.dropped)
    dropped.push_back({{"key", spec::to_json(drop.entry.key)},
                       {"target", drop.entry.target},
                       {"candidate_id", drop.entry.candidate_id},
                       {"origin", drop.origin},
                       {"why", drop.why}});
  const base::Json whole = {
      {"out", out}, {"entries", result.pack.entries.size()}, {"dropped", dropped}};
  std::printf("%s\n", whole.dump(2, ' ', true).c_str());
}

void print_table(const packs::MergeResult& result, const std::string& out) {
  std::vector<std::vector<std::string>> rows = {
      {"dropped", "dtype", "shape", "kernel", "from", "why"}};
  for (const packs::Dropped& drop : result.dropped) {
    const spec::PinKey& key = drop.entry.key;
    rows.push_back({key.op_name, key.dtype, key.shape_signature.text(), drop.entry.candidate_id,
                    drop.origin, drop.why});
  }
  if (rows.size() > 1) std::fputs(table_text(rows).c_str(), stdout);
  const std::string entries = counted(result.pack.entries.size(), "entry", "entries");
  std::printf("%s: %s, %zu dropped\n", out.c_str(), entries.c_str(), result.dropped.size());
}

}  // namespace

void add_pack(CLI::App& app) {
  auto options = std::make_shared<PackOptions>();
  CLI::App* verb = app.add_subcommand("pack", "Merge the winners of several runs into one pack");
  verb->add_option("--runs", options->runs, "Run directories, best_kernels.json files or packs")
      ->required();
  verb->add_option("--out", options->out, "Pack to write")->required();
  verb->add_option("--prefer-protocol", options->merge.prefer_protocol,
                   "Which times count where entries were measured by different protocols");
  verb->add_flag("--json", options->json, "Print what was dropped as JSON");
  verb->callback([options] {
    const packs::MergeResult result = packs::pack_runs(options->runs, options->out, options->merge);
    options->json ? print_json(result, options->out) : print_table(result, options->out);
  });
}

}  // namespace mlx_kd::cli
