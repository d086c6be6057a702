// kd install: the winners of one run into the file that programs load.
#include "mlx_kd/packs/merge/install.h"

#include <cstdio>
#include <memory>

#include "mlx_kd/cli/terminal/table.h"
#include "mlx_kd/cli/verbs.h"

namespace mlx_kd::cli {
namespace {

struct InstallOptions {
  std::string run, output;
  packs::MergeOptions merge;
  bool json = false;
};

void print_json(const packs::InstallResult& result, const std::string& output) {
  base::Json changes = base::Json::array();
  for (const packs::Change& change : result.changes)
    changes.push_back({{"change", packs::name_of(change.kind)},
                       {"key", spec::to_json(change.entry.key)},
                       {"target", change.entry.target},
                       {"candidate_id", change.entry.candidate_id},
                       {"why", change.why}});
  const base::Json whole = {
      {"output", output}, {"changes", changes}, {"other_entries_kept", result.foreign}};
  std::printf("%s\n", whole.dump(2, ' ', true).c_str());
}

void print_table(const packs::InstallResult& result, const std::string& output) {
  std::vector<std::vector<std::string>> rows = {{"", "op", "dtype", "shape", "kernel", ""}};
  for (const packs::Change& change : result.changes) {
    const spec::PinKey& key = change.entry.key;
    rows.push_back({packs::name_of(change.kind), key.op_name, key.dtype, key.shape_signature.text(),
                    change.entry.candidate_id, change.why});
  }
  std::fputs(table_text(rows).c_str(), stdout);
  const std::string others = counted(result.foreign, "other entry", "other entries");
  std::printf("%s: %s kept\n", output.c_str(), others.c_str());
}

void install(const InstallOptions& options) {
  const packs::InstallResult result = packs::install(options.run, options.output, options.merge);
  options.json ? print_json(result, options.output) : print_table(result, options.output);
}

}  // namespace

void add_install(CLI::App& app) {
  auto options = std::make_shared<InstallOptions>();
  CLI::App* verb = app.add_subcommand("install", "Merge the winners of a run into a pack");
  verb->add_option("--run", options->run, "Run directory, or its best_kernels.json")->required();
  verb->add_option("--output", options->output, "Pack to merge into; made if it is not there")
      ->required();
  verb->add_option("--prefer-protocol", options->merge.prefer_protocol,
                   "Which times count where entries were measured by different protocols");
  verb->add_flag("--json", options->json, "Print what changed as JSON");
  verb->callback([options] { install(*options); });
}

}  // namespace mlx_kd::cli
