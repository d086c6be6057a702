#include <cstdio>
#include <memory>

#include "mlx_kd/archive/run_reader.h"
#include "mlx_kd/archive/tuning_run.h"
#include "mlx_kd/base/files.h"
#include "mlx_kd/cli/verbs.h"

namespace mlx_kd::cli {
namespace {

struct ExportOptions {
  std::string run, out;
};

void export_run(const ExportOptions& options) {
  const std::string text =
      archive::t4_results(archive::read_run(options.run)).dump(2, ' ', true) + "\n";
  if (options.out.empty())
    std::fputs(text.c_str(), stdout);
  else
    base::write_file_atomically(options.out, text, "cli");
}

}  // namespace

void add_export(CLI::App& app) {
  auto options = std::make_shared<ExportOptions>();
  CLI::App* verb = app.add_subcommand(
      "export", "Writes what a run measured in a format that other tuners read.");
  verb->add_option("--t4", options->run, "Run directory to write as a T4 result file")->required();
  verb->add_option("--out", options->out, "File to write; standard output without it");
  verb->callback([options] { export_run(*options); });
}

}  // namespace mlx_kd::cli
