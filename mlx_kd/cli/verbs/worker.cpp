// kd worker: what an evaluation spawns; no verb for people.
#include <cstdlib>
#include <memory>

#include "mlx_kd/cli/verbs.h"
#include "mlx_kd/evaluate/evaluator.h"

namespace mlx_kd::cli {

void add_worker(CLI::App& app) {
  CLI::App* verb = app.add_subcommand("worker", "Serves one evaluation (started by kd itself)");
  verb->group("");
  auto fd = std::make_shared<int>(-1);
  verb->add_option("--fd", *fd, "The socket that requests come from")->required();
  // No destructors: a kernel may have left our threads in any state.
  verb->callback([fd] { std::_Exit(evaluate::worker_main(*fd)); });
}

}  // namespace mlx_kd::cli
