// kd tune-model: all operators that a model calls, tuned within one limit of time.
#include "mlx_kd/discover/models/tune_model.h"

#include <cstdio>
#include <memory>

#include "mlx_kd/base/clock.h"
#include "mlx_kd/base/error.h"
#include "mlx_kd/cli/command.h"
#include "mlx_kd/cli/size_options.h"
#include "mlx_kd/cli/terminal/console.h"
#include "mlx_kd/cli/terminal/progress.h"
#include "mlx_kd/cli/terminal/signals.h"
#include "mlx_kd/cli/terminal/table.h"
#include "mlx_kd/devices/device.h"
#include "mlx_kd/discover/models/tune_gains.h"
#include "mlx_kd/discover/models/tune_report.h"
#include "mlx_kd/discover/models/tune_skeleton.h"
#include "mlx_kd/shapes/tracked_configs.h"

namespace mlx_kd::cli {
namespace {

struct TuneOptions {
  discover::TuneRequest request;
  std::string time_budget = "10m", rows = "1,2,4,8", dtype, out;
  bool json = false, quiet = false, plan = false, config_only = false;
  SizeOptions model;
};

// Stages and notes; what a run tries is one line that is redrawn.
class TuneProgress : public Progress {
 public:
  using Progress::Progress;
  void evaluated(const discover::Step& step) override {
    show_step(counted(step.number, "kernel", "kernels") + " tried, best " +
              times(step.best_vs_first) + " of the default");
  }
  void trying(const spec::Candidate&, uint64_t) override {}
};

spec::ModelConfig read_model(TuneOptions& options, const std::atomic<bool>* cancelled) {
  const std::string& model = options.request.model;
  if (auto tracked = shapes::tracked_config(model)) {
    options.request.config = *tracked;
    return {std::move(*tracked), model};
  }
  options.model.model.model_id = model;
  const SizeSource source = open_sizes(options.model, options.quiet, cancelled);
  options.request.config = source.config->whole();
  return *source.config;
}

std::string verdict_of(const discover::UseResult& result) {
  if (!result.pinned) return "no pin: " + result.left;
  return fixed(result.speedup_lo, 2) + " to " + fixed(result.speedup_hi, 2) + " x MLX" +
         (result.is_default ? ", the default kernel" : "");
}

std::string result_table(const discover::TuneOutcome& outcome) {
  std::vector<std::vector<std::string>> rows = {
      {"use", "calls", "size", "MLX us", "default us", "now us", "outcome"}};
  for (const auto& result : outcome.uses)
    rows.push_back({result.use->name, std::to_string(result.use->calls),
                    result.use->sizes.front().text(), fixed(result.mlx_us, 1),
                    fixed(result.default_us, 1), fixed(result.us, 1), verdict_of(result)});
  return table_text(rows);
}

std::string plan_table(const discover::ModelUses& found) {
  std::vector<std::vector<std::string>> rows = {{"use", "calls", "sizes", "where"}};
  for (const auto& use : found.uses) {
    std::string sizes;
    for (const auto& size : use.sizes) sizes += (sizes.empty() ? "" : "; ") + size.text();
    rows.push_back({use.name, std::to_string(use.calls), sizes, use.reason});
  }
  return table_text(rows);
}

std::string in_words(const discover::Gain& gain) {
  return fixed(gain.ratio, 3) + " (" + fixed(gain.lo, 3) + " to " + fixed(gain.hi, 3) + ")";
}

// What the trial in the model's code says of the pack: of the first step, and of the prompt.
void print_trial(const TuneOptions& options, const discover::ModelTrial& trial) {
  if (!trial.was_made()) {
    std::fprintf(
        stderr,
        "Winners were not tried in the model (%s): the pack has those that were %s times as "
        "fast as the default kernel alone\n",
        trial.why_not.c_str(), fixed(discover::kLeastGain, 2).c_str());
    return;
  }
  const auto passes = discover::passes_of(options.request.sizes);
  for (size_t i = 0; i < trial.passes.size(); ++i) {
    const discover::PassTrial& pass = trial.passes[i];
    if ((i == 0 || passes[i].prompt) && pass.over_patch.rounds > 0)
      std::fprintf(stderr,
                   "In the model's code %s %s times as fast with %s as without a pack; winners "
                   "kept: %zu of %zu\n",
                   passes[i].prompt ? "a prompt is" : "decoding is",
                   in_words(pass.over_patch).c_str(),
                   pass.has_pins ? "the pack" : "its pins, which were left,", pass.kept.size(),
                   pass.tried.size());
  }
}

void print_tuning(const TuneOptions& options, const discover::TuneOutcome& outcome) {
  if (options.json)
    return print(discover::tune_report_json(options.request, outcome).dump(2, ' ', true) + "\n");
  print(result_table(outcome));
  std::fprintf(stderr, "%s in all. Report: %s/report.html\n", duration(outcome.seconds).c_str(),
               options.out.c_str());
  if (outcome.has_pack) print_trial(options, outcome.trial);
  if (outcome.pins > 0)
    std::fprintf(stderr, "%s in %s/pack.json. Next: %s promote --pack %s/pack.json --model PATH\n",
                 counted(outcome.pins, "pin", "pins").c_str(), options.out.c_str(),
                 command().c_str(), options.out.c_str());
}

// What the model's code calls, where a Python with mlx-lm is there to tell.
void run_code(const TuneOptions& options, const std::atomic<bool>* cancelled,
              discover::ModelUses& uses) {
  if (options.config_only) {
    uses.not_run = "--config-only";
    return;
  }
  const discover::TuneRequest& request = options.request;
  const discover::CalledSizes called = discover::run_skeleton(
      python_program(), request.config, request.sizes, request.dtype, cancelled);
  if (called.why_not.empty())
    discover::take_called(called, request.sizes, request.dtype, uses);
  else
    uses.not_run = called.why_not;
  if (!options.quiet && !uses.not_run.empty())
    std::fprintf(
        stderr,
        "The model's code was not run (%s): calls are what the config tells. Name a Python "
        "that has mlx-kd and mlx-lm with MLX_KD_PYTHON\n",
        uses.not_run.c_str());
  if (!options.quiet && !options.plan && !uses.differences.empty())
    std::fprintf(stderr,
                 "The model's code calls otherwise than its config tells in %s: --plan and the "
                 "report list them\n",
                 counted(uses.differences.size(), "place", "places").c_str());
}

void tune(TuneOptions& options) {
  discover::TuneRequest& request = options.request;
  request.time_budget_s = parse_duration(options.time_budget);
  request.sizes.rows = shapes::parse_counts(options.rows, "--rows");
  request.out = options.out;
  discover::Interrupt interrupt;
  std::atomic<bool> cancelled{false};
  const SignalWatch signals([&] {
    cancelled = true;
    interrupt.raise();
  });
  const spec::ModelConfig config = read_model(options, &cancelled);
  request.dtype = options.dtype.empty() ? discover::float_type_of(config)
                                        : spec::parse_float_dtype(options.dtype);
  request.uses = discover::uses_of(config, request.sizes);
  run_code(options, &cancelled, request.uses);
  if (cancelled) throw Exit{signals.exit_code()};
  if (request.uses.not_run.empty()) request.python = python_program();
  if (options.plan) {
    for (const std::string& line : request.uses.differences)
      std::fprintf(stderr, "%s\n", line.c_str());
    return print(plan_table(request.uses));
  }
  if (options.out.empty())
    base::misuse("cli", "there is no folder for what is found: give --out runs/NAME");
  discover::TuneOutcome outcome;
  {
    TuneProgress progress(0, options.quiet);
    outcome = discover::tune_model(request, progress, interrupt);
  }
  if (outcome.interrupted) {
    std::fprintf(stderr,
                 "Stopped after %s; what was found is kept in %s, and the same command continues\n",
                 duration(outcome.seconds).c_str(), options.out.c_str());
    throw Exit{signals.exit_code()};
  }
  print_tuning(options, outcome);
}

}  // namespace

void add_tune_model(CLI::App& app) {
  auto options = std::make_shared<TuneOptions>();
  CLI::App* verb = app.add_subcommand(
      "tune-model", "Tune the operators that a model calls, where its time goes, into one pack");
  verb->add_option("model", options->request.model,
                   "A model's folder, its config.json, a followed model, or an id on the hub")
      ->required();
  verb->add_option("--out", options->out,
                   "Folder of runs, pack and report; made if it is not there");
  verb->add_option("--time-budget", options->time_budget,
                   "For all, whatever was interrupted included: 60s, 10m, 1h")
      ->capture_default_str();
  verb->add_option("--rows", options->rows, "Tokens at once when decoding: batches")
      ->capture_default_str()
      ->join(',');
  verb->add_option("--prompt", options->request.sizes.prompt, "Tokens of a prompt; 0: no prompts")
      ->capture_default_str()
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 20));
  verb->add_option("--device", options->request.device,
                   "Where to run (kd devices lists them; cuda:1 is the second GPU)")
      ->transform(devices::choose_device)
      ->capture_default_str();
  verb->add_option("--dtype", options->dtype,
                   "float32, float16 or bfloat16; left out: what the config states");
  verb->add_option("--seed", options->request.seed, "Of the searches and of the test data")
      ->capture_default_str();
  verb->add_flag("--allow-approximate", options->request.allow_approximate,
                 "Also try kernels that trade accuracy on purpose; their pins say so");
  verb->add_flag("--plan", options->plan, "Print what would be tuned, and do nothing");
  verb->add_flag("--config-only", options->config_only,
                 "Do not run the model's code: operators and sizes are those of its config");
  verb->add_flag("--local-files-only", options->model.model.local_files_only,
                 "Take the model from disk; fetch nothing");
  verb->add_flag("--json", options->json, "The report as JSON on stdout");
  verb->add_flag("--quiet", options->quiet, "No progress");
  verb->callback([options] { tune(*options); });
}

}  // namespace mlx_kd::cli
