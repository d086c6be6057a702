// kd promote: pins judged and timed in the whole model. MLX's models are Python, so this starts it.
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <memory>

#include "mlx_kd/base/error.h"
#include "mlx_kd/base/json.h"
#include "mlx_kd/cli/command.h"
#include "mlx_kd/cli/terminal/console.h"
#include "mlx_kd/cli/verbs.h"

namespace mlx_kd::cli {
namespace {

struct PromoteOptions {
  std::string run, pack, model, out, time_budget = "10m";
  int64_t max_tokens = 200, runs = 3;
  uint64_t seed = 0;
  bool require_identical = false, json = false;
};

// Python's own message about a missing package does not say what to do.
constexpr const char* kStart =
    "import sys\n"
    "try:\n"
    "    from mlx_kd import promotion\n"
    "except ImportError as error:\n"
    "    sys.exit(f'[promote] {sys.executable} cannot import mlx_kd ({error}): install mlx-kd for "
    "it, '\n"
    "             'or name the Python that has it: MLX_KD_PYTHON=.../bin/python')\n"
    "sys.exit(promotion.main(sys.argv[1]))\n";

void promote(const PromoteOptions& options) {
  if (options.run.empty() == options.pack.empty())
    base::misuse("cli",
                 "the pins to promote are given by one of --run (a folder of kd tune-model or kd "
                 "run) and --pack");
  const base::Json request = {{"pack", options.pack.empty() ? options.run : options.pack},
                              {"model", options.model},
                              {"out", options.out},
                              {"max_tokens", options.max_tokens},
                              {"runs", options.runs},
                              {"require_identical", options.require_identical},
                              {"time_budget_s", parse_duration(options.time_budget)},
                              {"seed", options.seed},
                              {"json", options.json}};
  const std::string python = python_program(), text = request.dump();
  std::fflush(nullptr);
  execlp(python.c_str(), python.c_str(), "-c", kStart, text.c_str(), static_cast<char*>(nullptr));
  base::fail("cli", "the Python '" + python + "' cannot be started (" + std::strerror(errno) +
                        "): name one that has mlx-kd and mlx-lm, MLX_KD_PYTHON=.../bin/python");
}

}  // namespace

void add_promote(CLI::App& app) {
  auto options = std::make_shared<PromoteOptions>();
  CLI::App* verb = app.add_subcommand(
      "promote", "Judge and time pins in the whole model, and keep those that hold");
  verb->add_option("--run", options->run, "Folder of kd tune-model or kd run");
  verb->add_option("--pack", options->pack, "A pack");
  verb->add_option("--model", options->model, "The model's folder, or an id that was downloaded")
      ->required();
  verb->add_option(
      "--out", options->out,
      "Pack to write (promoted.json next to the pack); the evidence is written next to it");
  verb->add_option("--max-tokens", options->max_tokens,
                   "Tokens that are compared and timed; fewer where MLX is slow")
      ->capture_default_str()
      ->check(CLI::Range(int64_t{2}, int64_t{100000}));
  verb->add_option("--runs", options->runs, "Pairs of timed runs, with MLX and with pins")
      ->capture_default_str()
      ->check(CLI::Range(int64_t{1}, int64_t{1000}));
  verb->add_option("--time-budget", options->time_budget,
                   "What MLX's side is sized to where it does less than 5 tokens a second")
      ->capture_default_str();
  verb->add_option("--seed", options->seed, "Of the text that is judged")->capture_default_str();
  verb->add_flag("--require-identical", options->require_identical,
                 "Promote only if all tokens are those of MLX");
  verb->add_flag("--json", options->json, "The evidence as JSON on stdout");
  verb->callback([options] { promote(*options); });
}

}  // namespace mlx_kd::cli
