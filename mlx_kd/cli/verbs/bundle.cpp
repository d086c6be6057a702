// kd bundle: the CPU winners of a pack, compiled ahead of time.
#include "mlx_kd/discover/bundle.h"

#include <cstdio>
#include <memory>

#include "mlx_kd/base/error.h"
#include "mlx_kd/cli/terminal/console.h"
#include "mlx_kd/cli/terminal/table.h"
#include "mlx_kd/cli/verbs.h"

namespace mlx_kd::cli {
namespace {

struct BundleOptions {
  std::string pack, out, march = "native";
  bool json = false;
};

void print_table(const discover::Bundle& result, const BundleOptions& options) {
  std::vector<std::vector<std::string>> rows = {{"bytes", "kernel", "entry"}};
  for (const auto& entry : result.entries)
    if (entry.bytes > 0)
      rows.push_back({std::to_string(entry.bytes), entry.candidate_id, entry.title});
  if (rows.size() > 1) print(table_text(rows));
  for (const auto& entry : result.entries)
    if (entry.bytes == 0) print("left out: " + entry.title + ": " + entry.why + "\n");
  const size_t count = result.pack.entries.size();
  if (count > 0)
    print(options.out + ": " + counted(count, "entry", "entries") + " for " + options.march + "\n");
}

void print_json(const discover::Bundle& result, const BundleOptions& options) {
  base::Json entries = base::Json::array();
  for (const auto& entry : result.entries)
    entries.push_back({{"entry", entry.title},
                       {"candidate_id", entry.candidate_id},
                       {"bytes", entry.bytes},
                       {"why", entry.why}});
  const base::Json whole = {{"out", options.out},
                            {"march", options.march},
                            {"entries_written", result.pack.entries.size()},
                            {"entries", entries}};
  print(whole.dump(2, ' ', true) + "\n");
}

void bundle(const BundleOptions& options) {
  const packs::Pack pack = packs::read_pack(options.pack);
  packs::check_output(options.out);
  const discover::Bundle result = discover::bundle(pack, options.march);
  const bool any = !result.pack.entries.empty();
  if (any) packs::write_pack(options.out, result.pack);
  options.json ? print_json(result, options) : print_table(result, options);
  if (!any)
    base::fail("cli", "nothing of " + options.pack + " could be bundled, and nothing was written");
}

}  // namespace

void add_bundle(CLI::App& app) {
  auto options = std::make_shared<BundleOptions>();
  CLI::App* verb = app.add_subcommand(
      "bundle", "Compile the CPU winners of a pack into a file that needs no compiler");
  verb->add_option("pack", options->pack, "The pack")->required();
  verb->add_option("-o,--output", options->out, "Bundle to write")->required();
  verb->add_option("--march", options->march,
                   "Instruction-set level, as x86-64-v3; native: all that this CPU has")
      ->capture_default_str();
  verb->add_flag("--json", options->json, "Print what was bundled as JSON");
  verb->callback([options] { bundle(*options); });
}

}  // namespace mlx_kd::cli
