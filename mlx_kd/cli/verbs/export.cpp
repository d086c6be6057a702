#include <cstdio>
#include <memory>

#include "mlx_kd/archive/exchange/gzip.h"
#include "mlx_kd/archive/exchange/tuning_run.h"
#include "mlx_kd/archive/run/run_reader.h"
#include "mlx_kd/base/error.h"
#include "mlx_kd/base/files.h"
#include "mlx_kd/cli/verbs.h"

namespace mlx_kd::cli {
namespace {

struct ExportOptions {
  std::string t4, cache, out;
};

bool ends_in_gz(const std::string& path) {
  return path.size() > 3 && path.compare(path.size() - 3, 3, ".gz") == 0;
}

std::string text_of(const ExportOptions& options) {
  if (!options.t4.empty())
    return archive::t4_results(archive::read_run(options.t4)).dump(2, ' ', true) + "\n";
  const auto cache = archive::tuning_cache_json(archive::read_run(options.cache), options.cache);
  return cache.dump(-1, ' ', true) + "\n";
}

}  // namespace

void add_export(CLI::App& app) {
  auto options = std::make_shared<ExportOptions>();
  CLI::App* verb = app.add_subcommand(
      "export", "Writes what a run measured in a format that other tuners read.");
  verb->add_option("--t4", options->t4, "Run directory to write as a T4 result file");
  verb->add_option("--cache", options->cache,
                   "Run directory to write as a Kernel Tuner cache, which kd replay reads");
  verb->add_option("--out", options->out,
                   "File to write, gzipped if its name ends in .gz; standard output without it");
  verb->callback([options] {
    if (options->t4.empty() == options->cache.empty())
      base::misuse("cli", "kd export writes one format at a time: give --t4 RUN or --cache RUN");
    const std::string text = text_of(*options);
    if (options->out.empty())
      std::fputs(text.c_str(), stdout);
    else
      base::write_file_atomically(options->out,
                                  ends_in_gz(options->out) ? archive::gzip(text) : text, "cli");
  });
}

}  // namespace mlx_kd::cli
