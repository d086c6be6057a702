// kd prewarm: compiles the kernels of a pack before a program needs them.
#include <cstdio>
#include <memory>

#include "mlx_kd/base/error.h"
#include "mlx_kd/cli/terminal/console.h"
#include "mlx_kd/cli/terminal/table.h"
#include "mlx_kd/cli/verbs.h"
#include "mlx_kd/runtime/state/settings.h"
#include "mlx_kd/runtime/state/stats.h"

namespace mlx_kd::cli {
namespace {

struct PrewarmOptions {
  std::string pack;
  bool json = false;
};

std::string how(const runtime::PinStats& pin) {
  if (pin.state != "ready") return pin.state;
  return pin.cached ? "on disk" : "compiled";
}

void print_table(const runtime::Stats& stats) {
  std::vector<std::vector<std::string>> rows = {{"op", "dtype", "shape", "kernel", "ms", "state"}};
  for (const runtime::PinStats& pin : stats.pins)
    rows.push_back(
        {pin.op, pin.dtype, pin.shape, pin.candidate_id, fixed(pin.compile_ms, 1), how(pin)});
  if (rows.size() > 1) print(table_text(rows));
  for (const runtime::SkippedPin& skipped : stats.skipped)
    print("left out: " + skipped.title + ": " + skipped.reason + "\n");
}

}  // namespace

void add_prewarm(CLI::App& app) {
  auto options = std::make_shared<PrewarmOptions>();
  CLI::App* verb = app.add_subcommand(
      "prewarm", "Compile the kernels of a pack now, so that programs find them on disk");
  verb->add_option("pack", options->pack, "Pack, bundle, or 'shipped'")->required();
  verb->add_flag("--json", options->json, "Print what stats() says as JSON");
  verb->callback([options] {
    runtime::enable(options->pack);
    const size_t ready = runtime::prepare();
    const runtime::Stats stats = runtime::stats();
    options->json ? print(runtime::to_json(stats) + "\n") : print_table(stats);
    if (stats.dropped > 0)
      base::fail("cli", counted(stats.dropped, "kernel", "kernels") + " of " + options->pack +
                            " cannot be used: programs run MLX's operators there");
    if (ready == 0)
      base::fail("cli", "nothing of " + options->pack +
                            " can be used by this MLX on this machine: see what was left out");
  });
}

}  // namespace mlx_kd::cli
