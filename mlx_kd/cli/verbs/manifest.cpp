// kd manifest: the models that are followed, with what was run of them and what is planned.
#include "mlx_kd/archive/evidence/manifest.h"

#include <algorithm>
#include <cstdio>
#include <memory>

#include "mlx_kd/archive/run/run_reader.h"
#include "mlx_kd/base/error.h"
#include "mlx_kd/base/files.h"
#include "mlx_kd/cli/terminal/console.h"
#include "mlx_kd/cli/verbs.h"
#include "mlx_kd/kernels/op_table.h"

namespace mlx_kd::cli {
namespace {

namespace fs = std::filesystem;

struct ManifestOptions {
  std::vector<std::string> add;
  std::string evidence = "bench/evidence", output = "configs/kd_phase0_model_manifest.json";
  std::string packs = "packs";
  bool check = false;
};

bool has_suite(const spec::Op& op, const std::string& name) {
  return std::any_of(op.suites.begin(), op.suites.end(),
                     [&](const spec::Suite& suite) { return suite.name == name; });
}

void manifest(const ManifestOptions& options) {
  // The list of models is in a room that does not know the ops: here both meet.
  for (const auto& model : archive::tracked_models()) {
    for (const std::string& op : model.ops)
      if (!has_suite(kernels::find_op(op), model.suite))
        base::fail("cli", "op '" + op + "' has no suite '" + model.suite + "', which " +
                              model.model_id + " is followed on");
    if (!has_suite(kernels::find_op(model.baseline_op), model.baseline_suite))
      base::fail("cli",
                 "op '" + model.baseline_op + "' has no suite '" + model.baseline_suite + "'");
  }
  std::vector<archive::RunData> runs;
  for (const std::string& run : options.add) runs.push_back(archive::read_run(run));
  for (const auto& run : runs) {
    const auto added = archive::add_evidence(options.evidence, run);
    std::fprintf(stderr, "%s/%s\n", options.evidence.c_str(), added.capsule.c_str());
  }
  const std::string text =
      archive::make_manifest({options.evidence, options.evidence, options.packs})
          .dump(2, ' ', true) +
      "\n";
  if (!options.check) {
    base::write_file_atomically(options.output, text, "cli");
    return print(options.output + "\n");
  }
  if (base::read_file(options.output, "cli") != text)
    base::fail("cli", options.output + " is not what " + options.evidence +
                          " gives: write it again with kd manifest");
}

}  // namespace

void add_manifest(CLI::App& app) {
  auto options = std::make_shared<ManifestOptions>();
  CLI::App* verb = app.add_subcommand(
      "manifest", "The models that are followed: what was run of them, and what is planned");
  verb->add_option("--add", options->add, "Finished runs of suites to keep as evidence first");
  verb->add_option("--evidence", options->evidence, "Folder of evidence")->capture_default_str();
  verb->add_option("--packs", options->packs, "Folder of shipped packs")->capture_default_str();
  verb->add_option("--output", options->output, "File to write")->capture_default_str();
  verb->add_flag("--check", options->check, "Write nothing; fail if the file is out of date");
  verb->callback([options] { manifest(*options); });
}

}  // namespace mlx_kd::cli
