#include "mlx_kd/cli/run_options.h"

#include <cstdio>
#include <map>

#include "mlx_kd/base/error.h"
#include "mlx_kd/cli/run_outcome.h"
#include "mlx_kd/cli/terminal/console.h"
#include "mlx_kd/cli/terminal/progress.h"
#include "mlx_kd/cli/terminal/signals.h"
#include "mlx_kd/discover/cluster/agreement.h"
#include "mlx_kd/discover/cluster/folders.h"
#include "mlx_kd/discover/cluster/run_as_rank.h"
#include "mlx_kd/kernels/op_table.h"

namespace mlx_kd::cli {
namespace {

// The search's own settings are better than any of these; they are for those who want to try.
void add_search_options(CLI::App& verb, RunOptions& options) {
  auto& search = options.request.strategy_options;
  const std::string group = "Search (left out: the strategy's own setting)";
  verb.add_option("--strategy", options.request.strategy,
                  "How to choose what to try: tours, random, exhaustive, ...")
      ->capture_default_str()
      ->group(group);
  verb.add_option(
          "--min-gain", options.request.min_gain,
          "Stop when going on promises less than this gain, one chance in twenty aside: 0.01 "
          "for 1 % (off)")
      ->check(CLI::Range(0.0, 1.0))
      ->group(group);
  verb.add_option(
          "--warm-start", options.warm_start,
          "Earlier runs of the op, or packs of its winners, of other sizes, types or devices, "
          "to learn from")
      ->group(group);
  verb.add_option("--batch", options.request.batch, "Candidates proposed and compiled together")
      ->capture_default_str()
      ->check(CLI::Range(1, 1024))
      ->group(group);
  verb.add_option("--neighbors", search.neighbors, "Graph moves looked at round each of the best")
      ->group(group);
  verb.add_option("--knn", search.knn, "Edges of a point in the nearest-neighbour graph")
      ->group(group);
  verb.add_option("--tours", search.tours, "Hamiltonian tours in the union")->group(group);
  verb.add_option("--exploit-fraction", search.exploit_fraction,
                  "Share of a batch for neighbours of the best")
      ->group(group);
  verb.add_option("--novelty-fraction", search.novelty_fraction, "Share of a batch for far points")
      ->group(group);
  verb.add_option("--min-tour-gap", search.min_tour_gap,
                  "Least distance along a tour between two stops")
      ->group(group);
}

const std::map<std::string, int> kClaims = {{"quick", 1}, {"normal", 7}, {"long", 21}};

void add_measuring_options(CLI::App& verb, RunOptions& options) {
  const std::string group = "Measuring";
  verb.add_option("--warmup", options.request.warmup,
                  "Least number of untimed calls before a sample")
      ->check(CLI::Range(0, 1000000))
      ->group(group);
  verb.add_option("--iters", options.request.iters, "Least number of samples of a candidate")
      ->check(CLI::Range(0, 1000000))
      ->group(group);
  verb.add_option("--finalists", options.request.finalists,
                  "Candidates per size that are re-measured against MLX")
      ->capture_default_str()
      ->check(CLI::Range(1, 100))
      ->group(group);
  verb.add_option_function<std::string>(
          "--claims",
          [&options](const std::string& how) { options.request.claim_processes = kClaims.at(how); },
          "How surely a winner is measured: in 1 process (quick), 7 (normal) or 21 (long, which "
          "finds 5 %) (normal)")
      ->check(CLI::IsMember({"quick", "normal", "long"}))
      ->group(group);
  verb.add_option("--prove-on", options.request.prove_on,
                  "Prove on another device (simt, say) where --device is not here; needs --times "
                  "null")
      ->group(group);
  verb.add_flag("--sanitize", options.request.sanitize,
                "Prove each kernel once more under compute-sanitizer; findings are verdicts (cuda)")
      ->group(group);
  verb.add_option_function<std::string>(
          "--times",
          [&options](const std::string& which) { options.request.null_times = which == "null"; },
          "measured, or null: invented, so that the winners are not pins for use (measured)")
      ->check(CLI::IsMember({"measured", "null"}))
      ->group(group);
  verb.add_option("--bench-mode", options.bench_mode,
                  "Accepted for compatibility with zmlx.kd and ignored: candidates are always "
                  "timed in pairs")
      ->check(CLI::IsMember({"interleaved", "legacy"}))
      ->group(group);
}

void add_main_options(CLI::App& verb, RunOptions& options) {
  discover::RunRequest& request = options.request;
  verb.add_option("--out", options.out, "Folder of the run; made if it is not there")->required();
  verb.add_option("--budget", request.budget, "Candidates to evaluate, each on all sizes")
      ->capture_default_str()
      ->check(CLI::Range(uint64_t{1}, uint64_t{100000000}));
  verb.add_option("--time-budget", options.time_budget,
                  "Stop trying after that long: 60s, 5m, 1h (in addition to --budget)");
  verb.add_option("--seed", request.seed, "Of the search and of the test data")
      ->capture_default_str();
  verb.add_option("--range", options.ranges,
                  "Sizes of a free dim that one kernel shall serve, as S=1:4096: samples the ends "
                  "and between (repeatable; kd ops --json says which are free)");
  verb.add_option("--row-range", options.row_range,
                  "The same of the batch dim (rows; B for rope), as 1:512");
  verb.add_flag("--resume", request.resume,
                "Go on with the run in --out, or start it if there is none");
  verb.add_flag("--json", options.json, "The outcome as JSON on stdout");
  verb.add_flag("--quiet", options.quiet, "No progress");
}

void read_options(RunOptions& options) {
  options.request.dtype = spec::parse_float_dtype(options.dtype);
  options.request.out = options.out;
  options.request.warm_start.assign(options.warm_start.begin(), options.warm_start.end());
  if (!options.row_range.empty() || !options.ranges.empty())
    options.request.ranges = shapes::parse_ranges(kernels::find_op(options.request.op_name),
                                                  options.ranges, options.row_range);
  if (!options.time_budget.empty())
    options.request.time_budget_s = parse_duration(options.time_budget);
  if (!options.bench_mode.empty())
    std::fprintf(stderr,
                 "[cli] --bench-mode %s is read and has no effect: the protocol pairs always\n",
                 options.bench_mode.c_str());
}

constexpr int kInterrupted = 130;  // as by Ctrl-C, on ranks whose user did not press it

// As a rank where a launcher started several, or where one continues what several began.
discover::RunOutcome run_alone_or_as_rank(RunOptions& options, const std::function<void()>& prepare,
                                          std::unique_ptr<discover::Ranks>& ranks,
                                          discover::Interrupt& interrupt) try {
  if (!ranks && options.request.resume && discover::has_ranks(options.out))
    ranks = std::make_unique<discover::Ranks>();
  if (!ranks) {
    prepare();
    Progress progress(options.request.budget, options.quiet);
    return discover::run(options.request, progress, interrupt);
  }
  discover::meet_all(*ranks, false, [&] {
    prepare();
    return std::string();
  });
  Progress progress(options.request.budget, options.quiet);
  return discover::run_as_rank(options.request, *ranks, progress, interrupt);
} catch (const discover::ReportedElsewhere& reported) {
  throw Exit{reported.exit_code};
} catch (const discover::Stopped&) {
  throw Exit{kInterrupted};
}

}  // namespace

void add_run_options(CLI::App& verb, RunOptions& options) {
  add_main_options(verb, options);
  add_search_options(verb, options);
  add_measuring_options(verb, options);
}

void execute_run(RunOptions& options,
                 const std::function<void(const std::atomic<bool>* cancelled)>& prepare) {
  discover::Interrupt interrupt;
  std::atomic<bool> cancelled{false};
  const SignalWatch signals([&] {
    cancelled = true;
    interrupt.raise();
  });
  auto ranks = discover::join_ranks([&] { interrupt.raise(); });
  const bool first = !ranks || ranks->rank() == 0;
  options.quiet = options.quiet || !first;
  const auto ready = [&] {
    prepare(&cancelled);
    read_options(options);
  };
  const discover::RunOutcome outcome = run_alone_or_as_rank(options, ready, ranks, interrupt);
  if (outcome.interrupted) {
    if (first)
      std::fprintf(stderr, "Stopped after %llu kernels; go on with the same command and --resume\n",
                   static_cast<unsigned long long>(outcome.evaluated));
    const int code = signals.exit_code();
    throw Exit{code ? code : kInterrupted};
  }
  if (first) print_outcome(options.request, outcome, options.out, options.json);
}

}  // namespace mlx_kd::cli
