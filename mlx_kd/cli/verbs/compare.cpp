#include "mlx_kd/archive/report/compare.h"

#include <cstdio>
#include <memory>

#include "mlx_kd/archive/run/run_reader.h"
#include "mlx_kd/cli/verbs.h"

namespace mlx_kd::cli {
namespace {

struct CompareOptions {
  std::string a, b;
  bool json = false;
};

void compare(const CompareOptions& options) {
  const auto comparison =
      archive::compare(archive::read_run(options.a), archive::read_run(options.b));
  const std::string text = options.json
                               ? archive::comparison_json(comparison).dump(2, ' ', true) + "\n"
                               : archive::comparison_table(comparison);
  std::fputs(text.c_str(), stdout);
}

}  // namespace

void add_compare(CLI::App& app) {
  auto options = std::make_shared<CompareOptions>();
  CLI::App* verb = app.add_subcommand(
      "compare", "Sets the winners of two runs of one op and the same sizes next to each other.");
  verb->add_option("RUN_A", options->a, "Run directory")->required();
  verb->add_option("RUN_B", options->b, "Run directory")->required();
  verb->add_flag("--json", options->json, "Print as JSON");
  verb->callback([options] { compare(*options); });
}

}  // namespace mlx_kd::cli
